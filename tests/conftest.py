"""Fixtures that every part of the tests shares."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from bihrnet_edge.pose.keypoints import KeypointSet
from bihrnet_edge.pose.metadata import METADATA_KEY, PoseMetadata

sys.path.append(str(Path(__file__).parent))  # for helpers: pytest imports tests without touching the path

DOTS = ("right_shoulder", "left_hip", "left_wrist")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not os.environ.get("BIHRNET_THOROUGH"):
        for item in items:
            if item.get_closest_marker("thorough"):
                item.add_marker(pytest.mark.skip(reason="thorough; make test-thorough runs it"))


@pytest.fixture(scope="session", autouse=True)
def _interruptible() -> None:
    """Background jobs and nohup ignore signals, and so would every process that a test starts and interrupts."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real images: ``shared/data`` beside the repository, or what BIHRNET_DATA names."""
    folder = Path(os.environ.get("BIHRNET_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"there are no real images in {folder}; set BIHRNET_DATA")
    return folder


@pytest.fixture(scope="session")
def dot_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Writes an .onnx of one convolution whose heatmap k is the brightness of colour ``colours[k]``: it finds dots."""
    onnx = pytest.importorskip("onnx")
    folder = tmp_path_factory.mktemp("dots")

    def make(name: str, names: tuple[str, ...] = DOTS, colours: tuple[int, ...] = (0, 1, 2)) -> Path:
        metadata = PoseMetadata(name, 128, 96, KeypointSet("dots", names), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
        kernel = np.zeros((len(names), 3, 4, 4), np.float32)
        kernel[range(len(names)), colours, 0, 0] = 1
        float32 = onnx.TensorProto.FLOAT
        graph = onnx.helper.make_graph(
            [onnx.helper.make_node("Conv", ["images", "kernel"], ["heatmaps"], strides=[4, 4])],
            name,
            [onnx.helper.make_tensor_value_info("images", float32, ["N", 3, 128, 96])],
            [onnx.helper.make_tensor_value_info("heatmaps", float32, ["N", len(names), 32, 24])],
            [onnx.numpy_helper.from_array(kernel, "kernel")],
        )
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
        onnx.helper.set_model_props(model, {METADATA_KEY: metadata.to_json()})
        onnx.save(model, str(folder / f"{name}.onnx"))
        return folder / f"{name}.onnx"

    return make


@pytest.fixture
def dot_people(tmp_path: Path) -> Path:
    """``people.json``, COCO's form, ten people in ``images``, one a picture; joints are where the dots are."""
    rng = np.random.default_rng(5)
    (tmp_path / "images").mkdir()
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for i in range(10):
        corner = rng.uniform([40, 30], [120, 60])
        points = corner + np.array([[0.0, 0.0], [50, 70], [80, 10]]) * rng.uniform(0.8, 1.2)
        x, y = np.arange(260), np.arange(180)[:, None]
        dots: list[NDArray[np.float64]] = [255 * np.exp(-((x - px) ** 2 + (y - py) ** 2) / 128) for px, py in points]
        Image.fromarray(np.rint(np.stack(dots, axis=-1)).astype(np.uint8)).save(tmp_path / "images" / f"{i}.png")
        (left, top), (right, bottom) = points.min(axis=0) - 10, points.max(axis=0) + 10
        flat = np.concatenate([points, np.full((3, 1), 2.0)], axis=1).ravel().tolist()
        images.append({"id": i + 1, "file_name": f"{i}.png", "width": 260, "height": 180})
        annotations.append(
            {"id": 100 + i, "image_id": i + 1, "category_id": 1, "keypoints": flat, "iscrowd": 0,
             "bbox": [left, top, right - left, bottom - top], "area": (right - left) * (bottom - top)}
        )  # fmt: skip
    category = {"id": 1, "name": "person", "keypoints": list(DOTS), "skeleton": [[1, 2]]}
    document = {"images": images, "annotations": annotations, "categories": [category]}
    (tmp_path / "people.json").write_text(json.dumps(document))
    return tmp_path
