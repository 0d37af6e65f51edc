from __future__ import annotations

import copy
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bihrnet_edge.data.dataset import load_annotations
from bihrnet_edge.errors import UserError
from bihrnet_edge.pose.keypoints import COCO, LSP

Write = Callable[[Any], Path]


def test_reads_a_person(coco: dict[str, Any], images: Path, write: Write) -> None:
    dataset = load_annotations(write(coco), images)
    (person,) = dataset.people
    assert person.image_path == images / "a.png"
    assert (person.image_id, person.annotation_id, person.area) == (7, 5, 600.0)
    assert person.box == (10, 20, 29, 39)  # HRNet's reader counts the last pixel in
    assert person.keypoints.dtype == np.float32
    np.testing.assert_array_equal(person.keypoints[:2], [[11, 21], [12.5, 22]])
    assert person.visible.tolist() == [True, True, False]  # v = 1 is labelled, though occluded
    assert dataset.keypoints.keypoints == ("wrist", "thumb", "index")
    assert dataset.keypoints.skeleton == ((0, 1), (0, 2))
    assert dataset.name == "people"
    assert dataset.skipped == {}


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ([-10, -5, 30, 20], (0, 0, 29, 19)),  # HRNet moves the box in, it does not shorten it
        ([90, 70, 50, 50], (90, 70, 9, 9)),
        ([0, 0, 100, 80], (0, 0, 99, 79)),
    ],
)
def test_clips_boxes_as_hrnet_does(
    coco: dict[str, Any], images: Path, write: Write, box: list[float], expected: tuple[float, ...]
) -> None:
    coco["annotations"][0]["bbox"] = box
    assert load_annotations(write(coco), images).people[0].box == expected


def test_counts_what_it_leaves_out(coco: dict[str, Any], images: Path, write: Write) -> None:
    def add(**changes: Any) -> None:
        coco["annotations"].append(
            copy.deepcopy(coco["annotations"][0]) | {"id": len(coco["annotations"]) + 10} | changes
        )

    add(iscrowd=1)
    add(keypoints=[0] * 9)
    add(keypoints=[5, 5, 0] * 3)
    add(bbox=[10, 10, 0, 5])
    add(bbox=[200, 10, 5, 5])
    add(area=0)
    add(category_id=2)
    add(image_id=8)
    dataset = load_annotations(write(coco), images)
    assert [person.image_id for person in dataset.people] == [7, 8]
    assert dataset.skipped == {
        "crowd": 1, "no labelled keypoints": 2, "box without area": 3, "category without keypoints": 1,
    }  # fmt: skip


BROKEN: dict[str, tuple[str, list[Any]]] = {
    "keypoints": (
        "malformed keypoints",
        [[math.nan, 1, 2] * 3, [1, 2, math.inf] * 3, [1e300, 1, 2] * 3, [10**400, 1, 2] * 3, [1, 2, 2], ["x"] * 9,
         [[1, 2], [1]], None, "none", {}],
    ),
    "bbox": (
        "missing or malformed box",
        [[1, 2, math.nan, 4], [1, 2, 3], [1, 2, 10**400, 4], [1, 2, 1e300, 4], ["x"] * 4, None, 3, {}],
    ),
    "area": ("malformed area", [math.nan, math.inf, "large", 10**400, [1, 2], {}]),
}  # fmt: skip


@pytest.mark.parametrize(
    ("field", "value"), [(field, value) for field, (_, values) in BROKEN.items() for value in values]
)
def test_one_persons_malformed_numbers_cost_that_person(
    coco: dict[str, Any], images: Path, write: Write, field: str, value: Any
) -> None:
    coco["annotations"].append(copy.deepcopy(coco["annotations"][0]) | {"id": 6, field: value})
    dataset = load_annotations(write(coco), images)
    reason = BROKEN[field][0]
    assert [person.annotation_id for person in dataset.people] == [5]
    assert dataset.skipped == {reason: 1}
    (example,) = dataset.examples[reason]
    assert example.startswith(f"annotation 6: {field} h")
    assert dataset.truth is not None  # a prediction on that person is neither right nor wrong
    assert dataset.truth.ignored.tolist() == [False, True]


def test_duplicate_ids(coco: dict[str, Any], images: Path, write: Write) -> None:
    coco["annotations"].append(coco["annotations"][0] | {"image_id": 8})
    coco["images"].append(coco["images"][0] | {"file_name": "b.png"})
    dataset = load_annotations(write(coco), images)
    assert [(person.annotation_id, person.image_path.name) for person in dataset.people] == [(5, "a.png")]
    assert dataset.skipped == {"duplicate annotation id": 1}
    assert dataset.notes == {"duplicate image id, the first counts": 1}
    assert dataset.examples == {
        "duplicate annotation id": ("annotation 5",),
        "duplicate image id, the first counts": ("image 7",),
    }


@pytest.mark.parametrize(
    ("point", "inside"),
    [((-0.5, 0), True), ((99.5, 79.5), True), ((-0.6, 0), False), ((5, 79.6), False), ((1e6, -1e6), False)],
)
def test_joints_outside_the_image(
    coco: dict[str, Any], images: Path, write: Write, point: tuple[float, float], inside: bool
) -> None:
    coco["annotations"][0]["keypoints"][:2] = point
    coco["annotations"][0]["keypoints"][6:8] = (-900, -900)  # not labelled, so it does not matter where
    dataset = load_annotations(write(coco), images)
    assert len(dataset) == 1
    assert dataset.notes == ({} if inside else {"people with a joint outside the image": 1})
    np.testing.assert_array_equal(dataset.people[0].keypoints[0], np.float32(point))


def test_truth_keeps_what_the_protocol_ignores(coco: dict[str, Any], images: Path, write: Write) -> None:
    first = coco["annotations"][0]
    coco["annotations"] += [
        first | {"id": 6, "iscrowd": 1, "keypoints": [0] * 9},
        first | {"id": 7, "keypoints": [0] * 9, "image_id": 8},
        first | {"id": 8, "category_id": 2},
        {key: value for key, value in first.items() if key != "area"} | {"id": 9},
        first | {"id": 10, "keypoints": "none", "bbox": "none"},
    ]
    dataset = load_annotations(write(coco), images)
    truth = dataset.truth
    assert truth is not None
    assert (truth.images.tolist(), truth.image_ids.tolist()) == ([7, 8], [7, 7, 8, 7])
    assert truth.crowd.tolist() == [False, True, False, False]
    assert truth.ignored.tolist() == [False, True, True, False]
    np.testing.assert_array_equal(truth.areas, [600, 600, 600, np.nan])
    np.testing.assert_array_equal(truth.boxes[0], [10, 20, 30, 40])  # as annotated, not as cropped
    assert truth.keypoints[0].ravel().tolist() == first["keypoints"]
    assert dataset.images == {7: images / "a.png", 8: images / "b.png"}
    assert truth.of_joints([2]).ignored.all()
    assert truth.of_joints([1]).keypoints[0].tolist() == [[12.5, 22, 1]]


def test_known_joints_get_their_name(coco: dict[str, Any], images: Path, write: Write) -> None:
    coco["categories"][0] |= {"keypoints": list(LSP.keypoints), "skeleton": []}
    coco["annotations"][0]["keypoints"] = [1, 2, 2] * len(LSP)
    assert load_annotations(write(coco), images).keypoints is LSP


def _break(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(document: dict[str, Any]) -> None:
        *parents, last = (int(part) if part.isdigit() else part for part in path.split("/"))
        target: Any = document
        for part in parents:
            target = target[part]
        if value is KeyError:
            del target[last]
        else:
            target[last] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_break("annotations", KeyError), "has no 'annotations'"),
        (_break("annotations", {}), "annotations is not a list"),
        (_break("annotations", []), "no usable person (the file lists none)"),
        (_break("categories", KeyError), "has no 'categories'"),
        (_break("categories/0/keypoints", KeyError), "no category names keypoints"),
        (_break("categories/0/skeleton", [[1, 9]]), "limb (0, 8)"),
        (_break("images", KeyError), "has no 'images'"),
        (_break("images/0/file_name", KeyError), "image 0 has no 'file_name'"),
        (_break("images/0/width", "wide"), "width holds something that is not a number"),
        (_break("annotations/0", 3), "annotation 0 has no 'id'"),
        (
            _break("annotations/0/keypoints", [1, 2, 2]),
            "(1 malformed keypoints (annotation 5: keypoints has 3 numbers, not 9))",
        ),
        (_break("annotations/0/keypoints", [float("nan"), 1, 2] * 3), "keypoints holds NaN"),
        (_break("annotations/0/keypoints", ["x", 1, 2] * 3), "not a number"),
        (_break("annotations/0/keypoints", [[1, 2], [1]]), "not a number"),
        (
            _break("annotations/0/bbox", KeyError),
            "(1 missing or malformed box (annotation 5: bbox has 0 numbers, not 4))",
        ),
        (_break("annotations/0/area", "large"), "(1 malformed area (annotation 5: area holds something"),
        (_break("annotations/0/bbox", [1, 2, float("inf"), 4]), "bbox holds NaN or infinity"),
        (_break("annotations/0/bbox", [1, 2, 10**400, 4]), "bbox holds a number that is too large"),
        (_break("annotations/0/bbox", [1, 2, 1e300, 4]), "bbox holds NaN or infinity"),
        (_break("annotations/0/keypoints", [1e300, 1, 2] * 3), "keypoints holds NaN or infinity"),
        (_break("annotations/0/keypoints", [10**400, 1, 2] * 3), "keypoints holds a number that is too large"),
        (_break("annotations/0/id", float("inf")), "id holds NaN or infinity"),
        (_break("annotations/0/id", 1 << 63), "id is 9223372036854775808, which is too large"),
        (_break("images/1/id", 10**30), "image 1: id is 1000000000000000000000000000000, which is too large"),
        (_break("annotations/0/id", 10**400), "id holds a number that is too large"),
        (_break("images/0/file_name", "a" * 5000), "1 of the images"),
        (_break("annotations/0/image_id", 99), "points to image 99"),
        (_break("annotations/0/image_id", 7.5), "image_id is 7.5, not a whole number"),
        (_break("images/0/file_name", "gone.png"), "1 of the images"),
        (_break("annotations/0/iscrowd", 1), "no usable person (1 crowd)"),
    ],
)
def test_says_what_is_wrong(
    coco: dict[str, Any], images: Path, write: Write, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    change(coco)
    with pytest.raises(UserError, match=re.escape(message)):
        load_annotations(write(coco), images)


def test_two_kinds_of_joints_in_one_file(coco: dict[str, Any], images: Path, write: Write) -> None:
    coco["categories"].append({"id": 2, "name": "foot", "keypoints": ["heel", "toe"]})
    with pytest.raises(UserError, match="split the file"):
        load_annotations(write(coco), images)


def test_real_coco(shared_data: Path) -> None:
    folder = shared_data / "coco_mini"
    dataset = load_annotations(folder / "annotations" / "person_keypoints_val2017.json", folder / "val2017")
    assert dataset.keypoints is COCO
    assert len(dataset) == 68
    assert dataset.skipped == {"no labelled keypoints": 24, "crowd": 1}
    assert dataset.notes == {}
    assert {person.keypoints.shape for person in dataset.people} == {(17, 2)}


def test_real_lsp_joints_lie_around_their_boxes(shared_data: Path) -> None:
    folder = shared_data / "lspet"
    dataset = load_annotations(folder / "person_keypoints_val.json", folder / "images")
    assert dataset.keypoints is LSP
    assert len(dataset) == 985
    assert dataset.skipped == {}
    for person in dataset.people:
        x, y, width, height = person.box
        inside = person.keypoints[person.visible] - [x, y]
        assert (inside >= -2).all()
        assert (inside <= np.array([width, height]) + 2).all()
