from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bihrnet_edge.data.dataset import load_annotations
from bihrnet_edge.data.detections import Detection, load_detections
from bihrnet_edge.errors import UserError
from bihrnet_edge.pose.crop import box_to_crop

Write = Callable[[Any], Path]


def box(**changes: Any) -> dict[str, Any]:
    return {"image_id": 7, "category_id": 1, "bbox": [10, 20, 30, 40], "score": 0.75} | changes


@pytest.fixture
def paths(images: Path) -> dict[int, Path]:
    return {7: images / "a.png", 8: images / "b.png", 9: images / "gone.png"}


def test_reads_boxes_as_they_are(paths: dict[int, Path], write: Write) -> None:
    found = load_detections(write([box(), box(image_id=8, bbox=[-5, -5, 500, 500], score=0)]), paths)
    assert found.people == [
        Detection(paths[7], 7, (10, 20, 30, 40), 0.75),
        Detection(paths[8], 8, (-5, -5, 500, 500), 0.0),
    ]
    assert (found.skipped, len(found)) == ({}, 2)
    assert box_to_crop(found.people[0].box, 0.75).height == 50


def test_counts_and_names_what_it_leaves_out(paths: dict[int, Path], write: Write) -> None:
    boxes = [
        box(),
        box(category_id=18),
        box(image_id=1000),
        box(bbox=[1, 2, 0, 5]),
        box(bbox=[1, 2, 5, -5]),
        box(bbox=[1, 2, 5]),
        box(bbox=[1, float("nan"), 5, 5]),
        box(score=float("inf")),
        box(score=0.1),
        box(score=0.3),
    ]
    found = load_detections(write(boxes), paths, min_score=0.3)
    assert [person.score for person in found.people] == [0.75, 0.3]
    assert found.skipped == {
        "not a person": 1,
        "image not in the annotation file": 1,
        "box without area": 2,
        "malformed box": 2,
        "malformed score": 1,
        "score below the threshold": 1,
    }
    assert found.examples["box without area"] == ("detection 3", "detection 4")
    assert found.examples["malformed box"][0] == "detection 5: bbox has 3 numbers, not 4"


def test_missing_images_are_refused_or_counted(paths: dict[int, Path], write: Write) -> None:
    path = write([box(), box(image_id=9), box(image_id=9)])
    with pytest.raises(UserError, match=r"^1 of the images .* the first is .*gone\.png"):
        load_detections(path, paths)
    found = load_detections(path, paths, skip_missing=True)
    assert (len(found), found.skipped) == (1, {"image file missing": 2})
    with pytest.raises(UserError, match="1 of the images"):
        load_detections(write([box(image_id=9)]), paths, skip_missing=True)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({}, "the file is not a list"),
        ([], r"no usable box \(the file lists none\)"),
        ([3], "detection 0 has no 'image_id'"),
        ([{"image_id": 7}], "detection 0 has no 'bbox'"),
        ([box(category_id=2)], r"no usable box \(1 not a person\)"),
        ([box(bbox=[1, 2])], r"no usable box \(1 malformed box \(detection 0: bbox has 2 numbers, not 4\)\)"),
        ([box(image_id="seven")], "image_id holds something that is not a number"),
    ],
)
def test_says_what_is_wrong(paths: dict[int, Path], write: Write, document: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_detections(write(document), paths)


def test_images_of_a_data_set(coco: dict[str, Any], images: Path, write: Write) -> None:
    dataset = load_annotations(write(coco), images)
    found = load_detections(write([box(image_id=8)]), dataset.images)  # nobody is annotated in it
    assert found.people[0].image_path == images / "b.png"
