"""A running demo of two models that differ, and a picture with what ``predict`` writes about it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bihrnet_edge.runtimes.demo.models import DemoModels
from bihrnet_edge.runtimes.demo.server import DemoServer
from bihrnet_edge.runtimes.people import Box
from bihrnet_edge.runtimes.predict import predict_file
from bihrnet_edge.runtimes.registry import open_runner


@pytest.fixture(scope="session")
def models(make_tflite: Callable[..., Path], make_onnx: Callable[..., Path]) -> list[str]:
    """A .tflite and an .onnx of one convolution each, with kernels of their own."""
    kernel = np.random.default_rng(8).standard_normal((3, 4, 4, 3)).astype(np.float32)
    return [str(make_tflite("first")), str(make_onnx("second", kernel=kernel))]


@pytest.fixture(scope="module")
def server(models: list[str]) -> Iterator[DemoServer]:
    with DemoModels(models) as opened, DemoServer(opened, port=0) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.05,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture(scope="session")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A photograph as a phone stores it: lying, with an EXIF orientation."""
    pixels = np.random.default_rng(2).integers(0, 255, (12, 18, 3), np.uint8)
    image = Image.fromarray(pixels).resize((180, 120), Image.Resampling.BICUBIC)
    exif = image.getexif()
    exif[0x0112] = 6  # turn clockwise to look at it
    path = tmp_path_factory.mktemp("picture") / "phone.jpg"
    image.save(path, quality=90, exif=exif)
    return path


@pytest.fixture(scope="session")
def predicted(models: list[str], picture: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[Any]]:
    """The person in the picture as the JSON of ``predict`` has it, one a model."""

    def predict(box: Box | None = None) -> list[Any]:
        people = []
        for model in models:
            with open_runner(model) as runner:
                listing, _ = predict_file(
                    runner, picture, [box] if box else None, tmp_path_factory.mktemp("predict"), threshold=0.1
                )
            (person,) = json.loads(listing.read_text())["people"]
            people.append(person)
        return people

    return predict
