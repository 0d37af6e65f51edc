"""Poses drawn over a picture."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from bihrnet_edge.pose.keypoints import KeypointSet

Color = tuple[int, int, int]

#: Okabe & Ito's palette: told apart with any colour vision.
LEFT: Color = (86, 180, 233)
RIGHT: Color = (230, 120, 0)
CENTER: Color = (240, 228, 66)
_OUTLINE: Color = (20, 20, 20)

_SUPERSAMPLE = 3
#: A region above this many pixels is drawn with less supersampling: its lines are thick enough.
_REGION_PIXELS = 4_000_000
#: Line width as a part of the diagonal of the joints' bounding box, and its limits in pixels.
_WIDTH = 0.014
_MIN_WIDTH, _MAX_WIDTH = 1.5, 24.0
_JOINT_RADIUS = 0.95  # in line widths
_OUTLINE_WIDTH = 0.3  # in line widths, on either side


def side_color(*names: str) -> Color:
    """Left, right or centre, by the names of the joints; a limb from one side to the other is centre."""
    sides = {name.partition("_")[0] for name in names} & {"left", "right"}
    if len(sides) != 1:
        return CENTER
    return LEFT if sides == {"left"} else RIGHT


def draw_poses(
    image: NDArray[np.uint8], keypoints: NDArray[np.floating[Any]], keypoint_set: KeypointSet, threshold: float
) -> NDArray[np.uint8]:
    """Draw skeletons, left, right and centre in colours of their own; lines scale with the person.

    Args:
        image: uint8 RGB ``(H, W, 3)``; not changed.
        keypoints: ``(P, K, 3)``: x, y in pixels of the image, and the score.
        keypoint_set: names and limbs.
        threshold: joints below this score, and their limbs, are left out.

    Returns:
        A new uint8 RGB image ``(H, W, 3)``.

    Raises:
        ValueError: the keypoints are not ``(P, K, 3)``.
    """
    if keypoints.ndim != 3 or keypoints.shape[1:] != (len(keypoint_set), 3):
        raise ValueError(f"keypoints have shape {keypoints.shape}, not (P, {len(keypoint_set)}, 3)")
    canvas = Image.fromarray(image)
    for person in keypoints:
        _draw_person(canvas, person, keypoint_set, threshold)
    return np.array(canvas)


def _draw_person(
    canvas: Image.Image, person: NDArray[np.floating[Any]], keypoint_set: KeypointSet, threshold: float
) -> None:
    shown = (person[:, 2] >= threshold) & np.isfinite(person).all(axis=1)
    if not shown.any():
        return
    points = person[:, :2]
    low, high = points[shown].min(axis=0), points[shown].max(axis=0)
    width = float(np.clip(math.hypot(*(high - low)) * _WIDTH, _MIN_WIDTH, _MAX_WIDTH))

    # Only the person's surroundings are supersampled; enlarging by repetition and averaging back leaves
    # every pixel that is not drawn on as it was.
    margin = math.ceil(2 * width)
    left, top = (max(0, math.floor(value) - margin) for value in low)
    right = min(canvas.width, math.ceil(high[0]) + margin + 1)
    bottom = min(canvas.height, math.ceil(high[1]) + margin + 1)
    if right <= left or bottom <= top:
        return
    area = (right - left) * (bottom - top)
    zoom = max(1, min(_SUPERSAMPLE, math.isqrt(_SUPERSAMPLE**2 * _REGION_PIXELS // area)))
    region = canvas.crop((left, top, right, bottom))
    large = region.resize((region.width * zoom, region.height * zoom), Image.Resampling.NEAREST)
    draw = ImageDraw.Draw(large)
    # Coordinates are pixel centres: +0.5 before enlarging.
    placed = [((x - left + 0.5) * zoom, (y - top + 0.5) * zoom) for x, y in points.tolist()]
    width *= zoom
    outline = width * _OUTLINE_WIDTH

    limbs = [limb for limb in keypoint_set.skeleton if shown[limb[0]] and shown[limb[1]]]
    names = keypoint_set.keypoints
    for a, b in limbs:
        _capsule(draw, placed[a], placed[b], width / 2 + outline, _OUTLINE)
    for a, b in limbs:
        _capsule(draw, placed[a], placed[b], width / 2, side_color(names[a], names[b]))
    for index in np.flatnonzero(shown):
        _disc(draw, placed[index], width * _JOINT_RADIUS + outline, _OUTLINE)
        _disc(draw, placed[index], width * _JOINT_RADIUS, side_color(names[index]))
    canvas.paste(large.reduce(zoom), (left, top))


def _disc(draw: ImageDraw.ImageDraw, at: tuple[float, float], radius: float, color: Color) -> None:
    draw.ellipse((at[0] - radius, at[1] - radius, at[0] + radius, at[1] + radius), fill=color)


def _capsule(
    draw: ImageDraw.ImageDraw, start: tuple[float, float], end: tuple[float, float], radius: float, color: Color
) -> None:
    """A line with round ends; as a polygon, since Pillow's lines have whole-pixel widths."""
    length = math.dist(start, end)
    if length > 0:
        across = (end[1] - start[1]) / length * radius, (start[0] - end[0]) / length * radius
        corners = [(x + sign * across[0], y + sign * across[1]) for (x, y), sign in
                   ((start, 1), (end, 1), (end, -1), (start, -1))]  # fmt: skip
        draw.polygon(corners, fill=color)
    _disc(draw, start, radius, color)
    _disc(draw, end, radius, color)
