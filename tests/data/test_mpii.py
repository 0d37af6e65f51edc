from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bihrnet_edge.data.dataset import load_annotations
from bihrnet_edge.errors import UserError
from bihrnet_edge.pose.crop import box_to_crop
from bihrnet_edge.pose.keypoints import MPII

Write = Callable[[Any], Path]


def hrnet_transform(center: list[float], scale: float, width: int, height: int) -> tuple[float, np.ndarray]:
    """Zoom and offset from image to input, step by step as HRNet's dataset and ``get_affine_transform`` do."""
    c, s = np.array(center), scale
    c[1] += 15 * s
    s *= 1.25
    c -= 1
    zoom = width / (200 * s)
    return zoom, np.array([width * 0.5, height * 0.5]) - zoom * c


@pytest.mark.parametrize("size", [(256, 256), (256, 192)])
def test_crop_is_hrnets(mpii: list[dict[str, Any]], images: Path, write: Write, size: tuple[int, int]) -> None:
    (person,) = load_annotations(write(mpii), images).people
    height, width = size
    points = np.array([[0.0, 0.0], [50.0, 40.0], [99.0, 79.0]])
    zoom, offset = hrnet_transform([50.0, 40.0], 0.3, width, height)
    crop = box_to_crop(person.box, width / height, 1.25)
    np.testing.assert_allclose(crop.to_input(points, size), zoom * points + offset, atol=1e-9)


def test_joints_count_from_zero(mpii: list[dict[str, Any]], images: Path, write: Write) -> None:
    mpii[0]["head_size"] = 12.5
    dataset = load_annotations(write(mpii), images)
    (person,) = dataset.people
    assert dataset.keypoints is MPII
    np.testing.assert_array_equal(person.keypoints[0], [9, 19])
    assert person.visible.tolist() == [True] * 15 + [False]
    assert (person.head_size, person.area) == (12.5, None)


def test_ids_and_what_is_left_out(mpii: list[dict[str, Any]], images: Path, write: Write) -> None:
    first = mpii[0]
    entries = [
        first,
        first | {"center": [-1.0, -1.0]},
        first | {"joints_vis": [0] * 16},
        first | {"image": "b.png"},
        first,
    ]
    dataset = load_annotations(write(entries), images)
    assert [(person.image_id, person.annotation_id) for person in dataset.people] == [(1, 1), (2, 4), (1, 5)]
    assert dataset.skipped == {"no centre or scale": 1, "no labelled keypoints": 1}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"joints": [[1, 2]] * 15}, "(1 malformed keypoints (entry 0: joints has 30 numbers, not 32))"),
        ({"joints": [[float("nan"), 2]] * 16}, "joints holds NaN"),
        ({"joints": [[1e300, 2]] * 16}, "joints holds NaN or infinity"),
        ({"scale": 10**400}, "scale holds a number that is too large"),
        ({"center": [1]}, "center has 1 numbers"),
        ({"scale": "big"}, "scale holds something that is not a number"),
        ({"image": "gone.jpg"}, "the first is"),
    ],
)
def test_says_what_is_wrong(
    mpii: list[dict[str, Any]], images: Path, write: Write, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        load_annotations(write([mpii[0] | change]), images)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"joints": [[math.nan, 2]] * 16}, "malformed keypoints"),
        ({"joints": None}, "malformed keypoints"),
        ({"joints_vis": [1] * 15}, "malformed keypoints"),
        ({"joints_vis": [math.nan] * 16}, "malformed keypoints"),
        ({"center": [1, math.inf]}, "malformed centre or scale"),
        ({"center": None}, "malformed centre or scale"),
        ({"scale": math.nan}, "malformed centre or scale"),
        ({"scale": 0}, "no centre or scale"),
        ({"head_size": "large"}, "malformed head size"),
        ({"head_size": math.nan}, "malformed head size"),
    ],
)
def test_one_persons_malformed_numbers_cost_that_person(
    mpii: list[dict[str, Any]], images: Path, write: Write, change: dict[str, Any], reason: str
) -> None:
    dataset = load_annotations(write([mpii[0] | change, mpii[0]]), images)
    assert [person.annotation_id for person in dataset.people] == [2]
    assert dataset.skipped == {reason: 1}
    assert dataset.examples[reason][0].startswith("entry 0")


def test_joints_outside_the_image(mpii: list[dict[str, Any]], images: Path, write: Write) -> None:
    mpii[0]["joints"][3] = [0.4, 20]
    dataset = load_annotations(write(mpii), images)
    assert (len(dataset), dataset.notes) == (1, {"people with a joint outside the image": 1})


def test_entry_without_joints(images: Path, write: Write) -> None:
    with pytest.raises(UserError, match="entry 0 has no 'joints'"):
        load_annotations(write([{"image": "a.png", "center": [1, 2], "scale": 1}]), images)


def test_real_mpii(shared_data: Path) -> None:
    folder = shared_data / "mpii_sample"
    dataset = load_annotations(folder / "test_mpii.json", folder)
    assert len(dataset) == 5
    assert dataset.people[0].keypoints[0].tolist() == [803, 710]
