"""The flip test against plain loops, and against a network whose answer for a mirrored picture is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bihrnet_edge.pose.flip import average, flip_order, mirror_heatmaps, mirror_images
from bihrnet_edge.pose.heatmaps import decode, encode
from bihrnet_edge.pose.keypoints import COCO, KEYPOINT_SETS, LSP, MPII, KeypointSet

seeds = st.integers(0, 2**32 - 1)
FACE = KeypointSet("face", ("left_eye", "nose", "right_eye", "left_only"))


@pytest.mark.parametrize("keypoints", KEYPOINT_SETS.values(), ids=str)
def test_order_swaps_sides_by_name(keypoints: KeypointSet) -> None:
    order = flip_order(keypoints)
    for name, other in zip(keypoints.keypoints, order, strict=True):
        side, _, joint = name.partition("_")
        mirrored = {"left": f"right_{joint}", "right": f"left_{joint}"}.get(side, name)
        assert keypoints.keypoints[other] == mirrored
    assert order[order].tolist() == list(range(len(keypoints)))


def test_pairs_are_those_of_hrnet() -> None:
    """As listed in HRNet's ``coco.py`` and ``mpii.py``."""
    assert COCO.flip_pairs == ((1, 2), (3, 4), (5, 6), (7, 8), (9, 10), (11, 12), (13, 14), (15, 16))
    assert MPII.flip_pairs == ((0, 5), (1, 4), (2, 3), (10, 15), (11, 14), (12, 13))
    assert LSP.flip_pairs == ((0, 5), (1, 4), (2, 3), (6, 11), (7, 10), (8, 9))
    assert flip_order(FACE).tolist() == [2, 1, 0, 3]  # a left joint without a right one stays


@given(seeds, st.integers(1, 5), st.integers(1, 6), st.booleans())
def test_equals_loops(seed: int, height: int, width: int, shift: bool) -> None:
    """Even and odd widths; HRNet's shift copies column x - 1 to x and keeps column 0."""
    rng = np.random.default_rng(seed)
    here, mirrored = rng.standard_normal((2, 3, 4, height, width)).astype(np.float32)
    back, mean = mirror_heatmaps(mirrored, FACE, shift), average(here, mirrored, FACE, shift)
    assert mean.dtype == np.float32
    for n in range(3):
        for k, partner in enumerate((2, 1, 0, 3)):
            for y in range(height):
                for x in range(width):
                    from_x = x - 1 if shift and x > 0 else x
                    expected = mirrored[n, partner, y, width - 1 - from_x]
                    assert back[n, k, y, x] == expected
                    assert mean[n, k, y, x] == pytest.approx((float(here[n, k, y, x]) + float(expected)) / 2, rel=1e-6)


@given(seeds, st.integers(1, 5), st.integers(1, 6))
def test_twice_mirrored_is_the_same(seed: int, height: int, width: int) -> None:
    heatmaps = np.random.default_rng(seed).standard_normal((2, 4, height, width)).astype(np.float32)
    copy = heatmaps.copy()
    assert np.array_equal(mirror_heatmaps(mirror_heatmaps(heatmaps, FACE, False), FACE, False), heatmaps)
    mirror_heatmaps(heatmaps, FACE)
    assert np.array_equal(heatmaps, copy)  # arguments are left alone
    images = np.random.default_rng(seed).standard_normal((2, height, width, 3)).astype(np.float32)
    assert np.array_equal(mirror_images(mirror_images(images)), images)
    assert mirror_images(images)[1, -1, 0].tolist() == images[1, -1, -1].tolist()


@given(st.sampled_from([24, 25, 48]), st.sampled_from([1, 2, 4]), st.floats(8, 15))
def test_the_shift_leaves_a_part_of_a_pixel(width: int, stride: int, truth: float) -> None:
    """A joint at input pixel x has its peak at x / stride; in the mirror it is at W - 1 - x."""
    one, x = KeypointSet("one", ("nose",)), stride * truth
    mirrored = encode(np.array([[[(stride * width - 1 - x) / stride, 8.0]]]), 16, width, 2.0)
    for shift, expected in ((False, truth - (stride - 1) / stride), (True, truth + 1 / stride)):
        points, _ = decode(mirror_heatmaps(mirrored, one, shift), "dark", blur_kernel=1)
        assert points[0, 0] == pytest.approx([expected, 8.0], abs=1e-3)
