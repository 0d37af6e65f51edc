from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bihrnet_edge.data.dataset import load_annotations
from bihrnet_edge.data.tally import Tally
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


def test_missing_images_can_be_skipped(images: Path, coco: dict[str, Any], write: Any) -> None:
    coco["annotations"] += [coco["annotations"][0] | {"id": number, "image_id": 8} for number in (6, 9)]
    (images / "b.png").unlink()
    path = write(coco)
    with pytest.raises(UserError, match=r"^1 of the images .* the first is .*b\.png"):
        load_annotations(path, images)
    dataset = load_annotations(path, images, skip_missing=True)
    assert [person.annotation_id for person in dataset.people] == [5]
    assert dataset.skipped == {"image file missing": 2}
    assert dataset.examples == {"image file missing": ("b.png", "b.png")}
    assert list(dataset.images) == [7]
    assert dataset.truth is not None
    assert (dataset.truth.images.tolist(), len(dataset.truth)) == ([7], 1)


def test_skipping_needs_one_image(tmp_path: Path, coco: dict[str, Any], write: Any) -> None:
    with pytest.raises(UserError, match="1 of the images"):
        load_annotations(write(coco), tmp_path, skip_missing=True)


def test_an_empty_set(images: Path, coco: dict[str, Any], write: Any) -> None:
    coco["annotations"] = []
    for document in (coco, []):
        with pytest.raises(UserError, match=r"no usable person \(the file lists none\)"):
            load_annotations(write(document), images)


def test_tally_counts_all_and_names_the_first() -> None:
    tally = Tally()
    for index in range(9):
        tally.add("crowd", f"annotation {index}")
    tally.malformed("malformed box", UserError("annotation 9: bbox holds NaN; correct the file."))
    tally.malformed("malformed box", UserError("annotation 10: bbox has 3 numbers; correct the file."))
    assert tally.counts == {"crowd": 9, "malformed box": 2}
    assert tally.examples["crowd"] == tuple(f"annotation {index}" for index in range(5))
    assert str(tally) == "9 crowd, 2 malformed box (annotation 9: bbox holds NaN)"
    assert str(Tally()) == ""


#: Anything that JSON can hold, its extensions NaN and Infinity included.
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
PERSON_FIELDS = ("id", "image_id", "category_id", "iscrowd", "area", "bbox", "keypoints")


@given(st.sampled_from(PERSON_FIELDS), ANYTHING)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_value_in_any_field_is_counted_or_said(
    coco: dict[str, Any], images: Path, write: Any, field: str, value: Any
) -> None:
    changed = copy.deepcopy(coco)
    changed["annotations"].append(changed["annotations"][0] | {"id": 6} | {field: value})
    try:
        dataset = load_annotations(write(changed), images)
    except UserError:
        return
    assert len(dataset) + sum(dataset.skipped.values()) == 2
    assert np.isfinite([person.box for person in dataset.people]).all()


@given(st.sampled_from(("image", "center", "scale", "joints", "joints_vis", "head_size")), ANYTHING)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_value_in_any_field_of_mpii(
    mpii: list[dict[str, Any]], images: Path, write: Any, field: str, value: Any
) -> None:
    try:
        dataset = load_annotations(write([mpii[0], mpii[0] | {field: value}]), images)
    except UserError:
        return
    assert len(dataset) + sum(dataset.skipped.values()) == 2
