"""A toy: pictures of three coloured discs whose centres are the joints."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from bihrnet_edge.data.dataset import PoseDataset, load_annotations
from bihrnet_edge.model.config import PRESETS, ModelConfig

JOINTS = ("right_shoulder", "left_hip", "left_shoulder")
COLOURS = ("red", "lime", "blue")


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """Steps this small are slower with more, much slower where tests run side by side."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """One more preset, ``tiny``, whose steps are quick."""
    monkeypatch.setitem(PRESETS, "tiny", ModelConfig(modules=(1, 1, 1), blocks=1, bottlenecks=1))


@pytest.fixture(scope="session")
def toy_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``people.json`` in COCO's form, twelve people in ``images``."""
    folder = tmp_path_factory.mktemp("toy")
    (folder / "images").mkdir()
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for i in range(12):
        picture = Image.new("RGB", (80, 80))
        points = rng.uniform(15, 65, (3, 2))
        for (x, y), colour in zip(points, COLOURS, strict=True):
            ImageDraw.Draw(picture).ellipse((x - 5, y - 5, x + 5, y + 5), fill=colour)
        picture.save(folder / "images" / f"{i}.png")
        flat = np.column_stack([points, np.full(3, 2.0)]).ravel().tolist()
        images.append({"id": i, "file_name": f"{i}.png", "width": 80, "height": 80})
        annotations.append(
            {"id": i, "image_id": i, "category_id": 1, "iscrowd": 0, "bbox": [8.0, 8.0, 64.0, 64.0], "area": 4096.0,
             "keypoints": flat}
        )  # fmt: skip
    category = {"id": 1, "name": "toy", "keypoints": list(JOINTS), "skeleton": []}
    document = {"images": images, "annotations": annotations, "categories": [category]}
    (folder / "people.json").write_text(json.dumps(document))
    return folder


@pytest.fixture(scope="session")
def toy(toy_folder: Path) -> PoseDataset:
    return load_annotations(toy_folder / "people.json", toy_folder / "images")
