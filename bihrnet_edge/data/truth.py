"""What COCO's protocol compares predictions with: every annotated person of the images, those it ignores included."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class CocoTruth:
    """Annotations of a keypoint category, as arrays: a tenth of what the JSON document takes in memory.

    People without a labelled joint and crowds stay in: a prediction that falls on one is neither right nor
    wrong (https://cocodataset.org/#keypoints-eval).

    Attributes:
        images: int64 ``(M,)``, ids of all images, those without people too.
        image_ids: int64 ``(N,)``, the image of each person.
        keypoints: float64 ``(N, K, 3)``, x and y in image pixels and COCO's visibility flag (0 where not labelled).
        boxes: float64 ``(N, 4)``, ``(x, y, width, height)`` as annotated, in image pixels.
        areas: float64 ``(N,)``, segment area in square pixels; NaN where the file gives none.
        crowd: bool ``(N,)``, one annotation for many people.
        ignored: bool ``(N,)``, not scored: a crowd, nothing labelled, or a malformed annotation.
    """

    images: NDArray[np.int64]
    image_ids: NDArray[np.int64]
    keypoints: NDArray[np.float64]
    boxes: NDArray[np.float64]
    areas: NDArray[np.float64]
    crowd: NDArray[np.bool_]
    ignored: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.image_ids)

    def of_images(self, image_ids: Iterable[int]) -> CocoTruth:
        """The part that lies in these images; ids which the file does not list are left out."""
        wanted = np.fromiter(image_ids, np.int64)
        rows = np.isin(self.image_ids, wanted)
        return CocoTruth(
            self.images[np.isin(self.images, wanted)],
            self.image_ids[rows],
            self.keypoints[rows],
            self.boxes[rows],
            self.areas[rows],
            self.crowd[rows],
            self.ignored[rows],
        )

    def of_joints(self, indices: Sequence[int]) -> CocoTruth:
        """The same people with only these joints, in this order; who has none of them labelled is ignored."""
        keypoints = self.keypoints[:, list(indices)]
        return replace(self, keypoints=keypoints, ignored=self.ignored | ~(keypoints[..., 2] > 0).any(axis=1))


class TruthBuilder:
    """Collects annotations one by one for a :class:`CocoTruth` of ``joints`` joints."""

    def __init__(self, joints: int) -> None:
        self._joints = joints
        self._image_ids: list[int] = []
        self._keypoints: list[NDArray[np.float64]] = []
        self._boxes: list[NDArray[np.float64]] = []
        self._areas: list[float] = []
        self._flags: list[tuple[bool, bool]] = []

    def add(
        self,
        image_id: int,
        keypoints: NDArray[np.float64] | None,
        box: NDArray[np.float64] | None,
        area: float | None,
        *,
        crowd: bool,
        malformed: bool,
    ) -> None:
        """Add one person; without joints and without a box there is no telling where, so nothing is added."""
        if keypoints is None and box is None:
            return
        joints = np.zeros((self._joints, 3)) if keypoints is None else keypoints
        self._image_ids.append(image_id)
        self._keypoints.append(joints)
        self._boxes.append(np.zeros(4) if box is None else box)
        self._areas.append(np.nan if area is None else area)
        self._flags.append((crowd, crowd or malformed or not (joints[:, 2] > 0).any()))

    def build(self, images: Iterable[int]) -> CocoTruth:
        """The arrays, for a file that lists these images."""
        flags = np.array(self._flags, bool).reshape(-1, 2)
        return CocoTruth(
            np.fromiter(images, np.int64),
            np.array(self._image_ids, np.int64),
            np.array(self._keypoints, np.float64).reshape(-1, self._joints, 3),
            np.array(self._boxes, np.float64).reshape(-1, 4),
            np.array(self._areas, np.float64),
            flags[:, 0],
            flags[:, 1],
        )
