from __future__ import annotations

import numpy as np
import pytest

from bihrnet_edge.pose.draw import CENTER, LEFT, RIGHT, draw_poses, side_color
from bihrnet_edge.pose.keypoints import COCO, LSP, KeypointSet

ARM = KeypointSet("arm", ("left_elbow", "left_wrist", "right_wrist"), ((0, 1), (1, 2)))


def background(height: int = 120, width: int = 160) -> np.ndarray:
    return np.random.default_rng(0).integers(100, 200, (height, width, 3), dtype=np.uint8)


def test_draws_where_the_joints_are_and_nowhere_else() -> None:
    image = background()
    poses = np.array([[[40, 30, 1], [40, 90, 1], [100, 90, 0.2]]], np.float32)
    drawn = draw_poses(image, poses, ARM, 0.5)
    assert drawn[30, 40].tolist() == list(LEFT)
    assert drawn[60, 40].tolist() == list(LEFT)  # middle of the limb
    np.testing.assert_array_equal(drawn[:, 60:], image[:, 60:])  # the third joint is below the threshold
    changed = np.argwhere((drawn != image).any(axis=2))
    assert changed.min(axis=0).tolist() > [24, 34]
    assert changed.max(axis=0).tolist() < [96, 46]


def test_does_not_touch_its_input() -> None:
    image = background()
    image.flags.writeable = False
    copy = image.copy()
    draw_poses(image, np.full((1, 3, 3), 50, np.float32), ARM, 0.5)
    np.testing.assert_array_equal(image, copy)


def test_overlay_is_symmetric_around_a_pixel() -> None:
    image = np.full((81, 81, 3), 128, np.uint8)
    only = KeypointSet("dot", ("nose",))
    drawn = draw_poses(image, np.array([[[40, 40, 1]]], np.float32), only, 0.5)
    assert (drawn != image).any()
    ys, xs = np.nonzero((drawn != image).any(axis=2))
    assert abs((ys.min() + ys.max()) / 2 - 40) <= 0.5
    assert abs((xs.min() + xs.max()) / 2 - 40) <= 0.5


def test_lines_scale_with_the_person() -> None:
    def painted(size: int) -> int:
        image = np.zeros((size, size, 3), np.uint8)
        low, high = 0.2 * size, 0.8 * size
        pose = np.array([[[low, low, 1], [high, high, 1], [0, 0, 0]]], np.float32)
        return int((draw_poses(image, pose, ARM, 0.5).max(axis=2) > 125).sum())

    assert painted(1200) / painted(300) == pytest.approx(16, rel=0.2)


@pytest.mark.parametrize("outside", [(-50.0, -60.0), (1e6, 5.0), (200.0, 200.0), (np.nan, 3.0)])
def test_joints_outside_the_picture(outside: tuple[float, float]) -> None:
    image = background()
    pose = np.array([[[*outside, 1], [80, 60, 1], [90, 60, 1]]], np.float32)
    drawn = draw_poses(image, pose, ARM, 0.5)
    assert drawn.shape == image.shape
    assert drawn[60, 90].tolist() == list(RIGHT)


def test_nobody_to_draw() -> None:
    image = background()
    np.testing.assert_array_equal(draw_poses(image, np.empty((0, 17, 3), np.float32), COCO, 0.5), image)
    np.testing.assert_array_equal(draw_poses(image, np.zeros((2, 17, 3), np.float32), COCO, 0.5), image)


def test_wrong_number_of_joints() -> None:
    with pytest.raises(ValueError, match="not \\(P, 14, 3\\)"):
        draw_poses(background(), np.zeros((1, 17, 3)), LSP, 0.5)


@pytest.mark.parametrize(
    ("names", "color"),
    [
        (("left_hip", "left_knee"), LEFT),
        (("right_hip", "neck"), RIGHT),
        (("left_hip", "right_hip"), CENTER),
        (("neck", "head_top"), CENTER),
    ],
)
def test_sides(names: tuple[str, ...], color: tuple[int, int, int]) -> None:
    assert side_color(*names) == color
