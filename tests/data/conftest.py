from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

Write = Callable[[Any], Path]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder with two 100x80 images, a.png and b.png."""
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("a.png", "b.png"):
        Image.new("RGB", (100, 80)).save(folder / name)
    return folder


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes an annotation file and gives its path."""

    def write_(document: Any) -> Path:
        path = tmp_path / "people.json"
        path.write_text(json.dumps(document))
        return path

    return write_


@pytest.fixture
def coco() -> dict[str, Any]:
    """A valid COCO document: three joints, one person in a.png."""
    return {
        "images": [
            {"id": 7, "file_name": "a.png", "width": 100, "height": 80},
            {"id": 8, "file_name": "b.png", "width": 100, "height": 80},
        ],
        "categories": [
            {"id": 1, "name": "hand", "keypoints": ["wrist", "thumb", "index"], "skeleton": [[1, 2], [1, 3]]},
        ],
        "annotations": [
            {
                "id": 5, "image_id": 7, "category_id": 1, "iscrowd": 0, "area": 600.0, "bbox": [10, 20, 30, 40],
                "keypoints": [11, 21, 2, 12.5, 22, 1, 0, 0, 0],
            }
        ],
    }  # fmt: skip


@pytest.fixture
def mpii() -> list[dict[str, Any]]:
    """A valid MPII document of one person in a.png."""
    return [
        {
            "image": "a.png",
            "center": [50.0, 40.0],
            "scale": 0.3,
            "joints": [[10.0 + i, 20.0 + i] for i in range(16)],
            "joints_vis": [1] * 15 + [0],
        }
    ]
