"""A report's pictures: the histogram of keypoint differences, and poses of two models side by side."""

from __future__ import annotations

import base64
import io
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bihrnet_edge.html import Markup, escaped, joined, tag
from bihrnet_edge.pose.draw import draw_poses
from bihrnet_edge.pose.keypoints import KeypointSet

#: Upper ends of the histogram's bins in image pixels; the last bin has none.
EDGES = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
#: Longer side of an embedded picture in pixels.
_SIDE = 400
_JPEG_QUALITY = 82
#: A person box is shown with this much around it, as the network sees it.
_MARGIN = 1.25


@dataclass(frozen=True, eq=False)
class WorstImage:
    """A picture on which two models differ.

    Attributes:
        name: the image file's name.
        note: how much they differ, in words.
        artifact_name: the artifact; the other one is the reference.
        image: uint8 RGB ``(H, W, 3)``.
        reference, artifact: ``(P, K, 3)``: x, y in image pixels and score, the joints that were compared.
        box: ``(x, y, width, height)`` of the person to show; the whole image unless given.
        threshold: joints below this score are left out.
    """

    name: str
    note: str
    artifact_name: str
    image: NDArray[np.uint8]
    reference: NDArray[np.floating[Any]]
    artifact: NDArray[np.floating[Any]]
    box: tuple[float, float, float, float] | None = None
    threshold: float = 0.0


def histogram(distances: NDArray[np.float64]) -> Markup:
    """An SVG of bars, one a line, from nearest to farthest; values that are not finite are left out."""
    known = distances[np.isfinite(distances)]
    # A distance on an edge belongs to the lower bin, as a keypoint "within 0.25 px" does.
    counts = np.bincount(np.searchsorted(EDGES, known, side="left"), minlength=len(EDGES) + 1)
    names = [f"≤ {edge:g}" for edge in EDGES] + [f"> {EDGES[-1]:g}"]
    row, left, width = 24, 62, 300
    longest = max(int(counts.max()), 1)
    lines = []
    for index, (name, count) in enumerate(zip(names, counts.tolist(), strict=True)):
        y, length = index * row, width * count / longest
        share = 100 * count / max(len(known), 1)
        lines += [
            tag("text", name, x=str(left - 8), y=str(y + 16), text_anchor="end"),
            tag("rect", "", x=str(left), y=str(y + 3), width=f"{length:.1f}", height=str(row - 6), class_="bar"),
            tag("text", f"{count} ({share:.1f} %)", x=f"{left + length + 6:.1f}", y=str(y + 16)),
        ]
    size = f"0 0 {left + width + 118} {row * len(names)}"
    label = "Histogram of keypoint differences in image pixels"
    return tag("svg", joined(*lines), viewBox=size, role="img", aria_label=label, font_size="14")


def picture_pair(worst: WorstImage, keypoints: KeypointSet) -> Markup:
    """Reference and artifact drawn over the same part of the image."""
    pictures = [
        _embedded(_shown(worst, poses, keypoints), f"{worst.name}, joints of {name}")
        for name, poses in (("the reference", worst.reference), (worst.artifact_name, worst.artifact))
    ]
    return tag("div", joined(*pictures), class_="pair")


def _shown(worst: WorstImage, poses: NDArray[np.floating[Any]], keypoints: KeypointSet) -> NDArray[np.uint8]:
    left, top, right, bottom = _region(worst.image.shape[:2], worst.box)
    part = Image.fromarray(worst.image[top:bottom, left:right])
    zoom = _SIDE / max(part.size)
    size = tuple(max(1, round(side * zoom)) for side in part.size)
    large = np.asarray(part.resize(size, Image.Resampling.LANCZOS))  # type: ignore[arg-type]  # two of them
    placed = np.array(poses, np.float64)
    scale = np.array(size) / part.size
    placed[..., :2] = (placed[..., :2] - [left, top] + 0.5) * scale - 0.5  # pixel centres
    return draw_poses(large, placed, keypoints, worst.threshold)


def _region(shape: tuple[int, ...], box: tuple[float, float, float, float] | None) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of what is shown: all of it where the box is not of this image."""
    height, width = shape
    if box is None or not all(map(math.isfinite, box)):
        return 0, 0, width, height
    x, y, w, h = box
    margin_x, margin_y = w * (_MARGIN - 1) / 2, h * (_MARGIN - 1) / 2
    left, top = max(0, math.floor(x - margin_x)), max(0, math.floor(y - margin_y))
    right, bottom = min(width, math.ceil(x + w + margin_x)), min(height, math.ceil(y + h + margin_y))
    return (left, top, right, bottom) if left < right and top < bottom else (0, 0, width, height)


def _embedded(image: NDArray[np.uint8], text: str) -> Markup:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=_JPEG_QUALITY)
    height, width = image.shape[:2]
    data = base64.b64encode(buffer.getvalue()).decode()
    return Markup(f'<img src="data:image/jpeg;base64,{data}" alt="{escaped(text)}" width="{width}" height="{height}">')
