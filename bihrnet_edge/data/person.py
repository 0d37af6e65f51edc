"""One annotated person: the unit of training, calibration and evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Person:
    """A person box and its labelled joints, in pixels of the image as it is stored.

    Attributes:
        image_path: the image file; known to exist.
        image_id, annotation_id: ids of the annotation file, for COCO's result format.
        box: ``(x, y, width, height)``, before :func:`bihrnet_edge.pose.crop.box_to_crop` pads it.
        keypoints: float32 ``(K, 2)``, ``(x, y)``; meaningless where not ``visible``.
        visible: bool ``(K,)``, True where the joint is labelled, occluded or not.
        area: segment area in square pixels (COCO's OKS needs it), or None.
        head_size: MPII's head size in pixels (PCKh), where the file gives one, else None.
    """

    image_path: Path
    image_id: int
    annotation_id: int
    box: tuple[float, float, float, float]
    keypoints: NDArray[np.float32]
    visible: NDArray[np.bool_]
    area: float | None = None
    head_size: float | None = None
