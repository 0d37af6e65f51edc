"""People in a picture: the boxes around them, and their joints as plain data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bihrnet_edge.errors import UserError
from bihrnet_edge.pose.keypoints import KeypointSet
from bihrnet_edge.pose.metadata import PoseMetadata

Box = tuple[float, float, float, float]


def parse_box(text: str, name: str = "--box") -> Box:
    """``x,y,width,height`` in pixels; ``name`` is what the error message calls it.

    Raises:
        UserError: not four numbers, or no area.
    """
    try:
        x, y, width, height = (float(part) for part in text.split(","))
    except ValueError as error:
        raise UserError(f"{name} is {text!r}; give x,y,width,height in pixels, e.g. 40,10,200,400.") from error
    if not (np.isfinite([x, y, width, height]).all() and width > 0 and height > 0):
        raise UserError(f"{name} is {text!r}; width and height must be above 0.")
    return x, y, width, height


def whole_picture(image: NDArray[np.uint8], metadata: PoseMetadata) -> Box:
    """The box whose crop is the whole picture ``(H, W, 3)``.

    The padding of a box is for what a detector cuts off; a picture taken whole has nothing beyond it.
    """
    height, width = image.shape[:2]
    padding = metadata.box_padding
    return width / 2 - width / padding / 2, height / 2 - height / padding / 2, width / padding, height / padding


def describe_people(boxes: Sequence[Box], poses: NDArray[np.float32], keypoints: KeypointSet) -> list[dict[str, Any]]:
    """JSON-serialisable: box, mean score and joints of each person; ``poses`` is ``(P, K, 3)``."""
    return [
        {
            "box": [round(value, 2) for value in box],
            "score": float(pose[:, 2].mean()),
            "keypoints": [
                {"name": name, "x": round(float(x), 2), "y": round(float(y), 2), "score": round(float(score), 4)}
                for name, (x, y, score) in zip(keypoints.keypoints, pose, strict=True)
            ],
        }
        for box, pose in zip(boxes, poses, strict=True)
    ]
