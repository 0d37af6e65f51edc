"""PCKh as MPII reports it: seven groups of joints and the mean.

Andriluka et al. 2014, http://human-pose.mpi-inf.mpg.de/#evaluation, in the form of HRNet's ``mpii.py``. Its table
prints a "Mean@0.1" taken at 0.11 (the twelfth of the thresholds 0, 0.01, ...); 0.1 is meant literally here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bihrnet_edge.metrics.pck import MPII_UNSCORED, pck
from bihrnet_edge.pose.keypoints import MPII, KeypointSet

#: MPII's groups in the order of its table. ``upper_neck`` is in none, but in the mean.
GROUPS: dict[str, tuple[str, ...]] = {
    "Head": ("head_top",),
    "Shoulder": ("left_shoulder", "right_shoulder"),
    "Elbow": ("left_elbow", "right_elbow"),
    "Wrist": ("left_wrist", "right_wrist"),
    "Hip": ("left_hip", "right_hip"),
    "Knee": ("left_knee", "right_knee"),
    "Ankle": ("left_ankle", "right_ankle"),
}


@dataclass(frozen=True)
class PckhResult:
    """Outcome of :func:`pckh`, in per cent.

    Attributes:
        threshold: fraction of the head size.
        groups: by MPII's name, the mean of left and right; NaN where none of a group was labelled.
        mean: of all counted joints, which leave pelvis and thorax out.
        per_joint: by joint name; NaN where a joint was never labelled.
        counted: labelled joints behind ``mean``.
        skipped_people: people without a head size.
    """

    threshold: float
    groups: dict[str, float]
    mean: float
    per_joint: dict[str, float]
    counted: int
    skipped_people: int

    @property
    def name(self) -> str:
        """E.g. ``PCKh@0.5``."""
        return f"PCKh@{self.threshold:g}"

    def to_dict(self) -> dict[str, Any]:
        """JSON-serialisable; NaN becomes None."""

        def plain(value: float) -> float | None:
            return None if np.isnan(value) else value

        return {
            "metric": self.name,
            "groups": {name: plain(value) for name, value in self.groups.items()},
            "mean": plain(self.mean),
            "per_joint": {name: plain(value) for name, value in self.per_joint.items()},
            "counted": self.counted,
            "skipped_people": self.skipped_people,
        }


def pckh(
    predictions: NDArray[np.floating[Any]],
    truth: NDArray[np.floating[Any]],
    visible: NDArray[np.bool_],
    head_sizes: NDArray[np.floating[Any]],
    threshold: float = 0.5,
    keypoint_set: KeypointSet = MPII,
) -> PckhResult:
    """Percentage of labelled joints no further than ``threshold`` head sizes from where they are.

    Args:
        predictions: ``(P, K, 2)`` in pixels; a NaN counts as wrong.
        truth: ``(P, K, 2)`` in the same pixels.
        visible: ``(P, K)``, True where labelled, occluded or not.
        head_sizes: ``(P,)`` in pixels, 0.6 of the head box's diagonal, e.g. of
            ``metric_for(MPII).lengths(people)``; people with NaN or 0 are skipped.
        keypoint_set: names the joints; groups that it lacks are left out.
    """
    names = keypoint_set.keypoints
    scored = np.array([name not in MPII_UNSCORED for name in names])
    result = pck(predictions, truth, visible, head_sizes, threshold, scored)
    per_joint = dict(zip(names, result.per_joint.tolist(), strict=True))
    groups = {}
    for group, members in GROUPS.items():
        values = [per_joint[name] for name in members if name in per_joint]
        known = [value for value in values if not np.isnan(value)]
        if values:
            groups[group] = sum(known) / len(known) if known else float("nan")
    return PckhResult(threshold, groups, result.mean, per_joint, result.counted, result.skipped_people)
