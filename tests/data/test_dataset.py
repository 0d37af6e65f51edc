from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bihrnet_edge.data.dataset import load_annotations
from bihrnet_edge.errors import UserError


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gone\.json cannot be read \(No such file"):
        load_annotations(tmp_path / "gone.json", tmp_path)


def test_folder_in_place_of_a_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        load_annotations(tmp_path, tmp_path)


@pytest.mark.parametrize("content", [b"", b'{"annotations": [', b"\xff\xfe\x00", b"[" * 100_000])
def test_not_json(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match="is not JSON"):
        load_annotations(path, tmp_path)


@pytest.mark.parametrize("content", [b"3", b'"text"', b"null", b"{}"])
def test_json_of_another_kind(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match="has no 'annotations'"):
        load_annotations(path, tmp_path)


def test_image_folder_is_missing(tmp_path: Path, coco: dict[str, Any], write: Any) -> None:
    with pytest.raises(UserError, match=r"image folder .* does not exist"):
        load_annotations(write(coco), tmp_path / "nowhere")


def test_counts_missing_images(tmp_path: Path, coco: dict[str, Any], write: Any) -> None:
    coco["annotations"].append(coco["annotations"][0] | {"id": 6, "image_id": 8})
    with pytest.raises(UserError, match=r"^2 of the images .* the first is .*a\.png"):
        load_annotations(write(coco), tmp_path)


def test_image_folder_of_an_impossible_name(tmp_path: Path, coco: dict[str, Any], write: Any) -> None:
    with pytest.raises(UserError, match=r"image folder .* cannot be read"):
        load_annotations(write(coco), tmp_path / ("a" * 5000))
