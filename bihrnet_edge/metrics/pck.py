"""Percentage of correct keypoints: a joint counts when it lies within a part of the person's own length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bihrnet_edge.data.person import Person
from bihrnet_edge.pose.keypoints import MPII, KeypointSet

#: MPII's evaluation leaves these joints out of the mean (Andriluka et al. 2014; HRNet's ``mpii.py``).
MPII_UNSCORED = ("pelvis", "thorax")


@dataclass(frozen=True)
class PckResult:
    """Outcome of :func:`pck`.

    Attributes:
        mean: per cent of the counted joints that are correct; NaN where none was counted.
        per_joint: per cent ``(K,)``; NaN where a joint was never labelled.
        counted: labelled joints behind ``mean``.
        skipped_people: people without a reference length.
    """

    mean: float
    per_joint: NDArray[np.float64]
    counted: int
    skipped_people: int


def pck(
    predictions: NDArray[np.floating[Any]],
    truth: NDArray[np.floating[Any]],
    visible: NDArray[np.bool_],
    reference: NDArray[np.floating[Any]],
    threshold: float,
    scored: NDArray[np.bool_] | None = None,
) -> PckResult:
    """Percentage of labelled joints no further than ``threshold * reference`` from where they are.

    Args:
        predictions: ``(P, K, 2)``; a NaN counts as wrong.
        truth: ``(P, K, 2)`` in the same pixels.
        visible: ``(P, K)``, True where labelled.
        reference: ``(P,)`` lengths in pixels; people with NaN or 0 are skipped.
        threshold: fraction of the reference length.
        scored: ``(K,)``, joints that enter the mean; all unless given.
    """
    correct, counts = correct_joints(predictions, truth, visible, reference, threshold)
    labelled, right = counts.sum(axis=0), correct.sum(axis=0)
    per_joint = np.full(labelled.shape, np.nan)
    np.divide(100.0 * right, labelled, out=per_joint, where=labelled > 0)
    chosen = np.ones(labelled.shape, bool) if scored is None else scored
    counted = int(labelled[chosen].sum())
    mean = 100.0 * float(right[chosen].sum()) / counted if counted else float("nan")
    return PckResult(mean, per_joint, counted, int((~_known(reference)).sum()))


def correct_joints(
    predictions: NDArray[np.floating[Any]],
    truth: NDArray[np.floating[Any]],
    visible: NDArray[np.bool_],
    reference: NDArray[np.floating[Any]],
    threshold: float,
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """What :func:`pck` counts, joint by joint: which are correct ``(P, K)`` and which count ``(P, K)``."""
    known = _known(reference)
    with np.errstate(invalid="ignore"):  # infinity less infinity
        distance = np.linalg.norm(np.asarray(predictions, np.float64) - np.asarray(truth, np.float64), axis=-1)
    counts = visible & known[:, None]
    # A NaN distance compares false, which is what a missing prediction deserves.
    return counts & (distance <= threshold * np.where(known, reference, 0.0)[:, None]), counts


def _known(reference: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
    return np.asarray(np.isfinite(reference) & (reference > 0))


def segment_length(
    keypoints: NDArray[np.floating[Any]], visible: NDArray[np.bool_], first: int, second: int
) -> NDArray[np.float64]:
    """Distance ``(P,)`` between two joints of ``(P, K, 2)``; NaN where one of them is not labelled."""
    ends = np.asarray(keypoints, np.float64)
    length = np.linalg.norm(ends[:, first] - ends[:, second], axis=-1)
    return np.where(visible[:, first] & visible[:, second], length, np.nan)


def torso_length(
    keypoints: NDArray[np.floating[Any]], visible: NDArray[np.bool_], keypoint_set: KeypointSet
) -> NDArray[np.float64]:
    """Right shoulder to left hip ``(P,)`` in pixels (Sapp & Taskar 2013); NaN where not both are labelled.

    Raises:
        ValueError: the set has no such joints.
    """
    shoulder, hip = keypoint_set.index("right_shoulder"), keypoint_set.index("left_hip")
    if shoulder is None or hip is None:
        raise ValueError(f"keypoint set {keypoint_set.name} has no right_shoulder or left_hip")
    return segment_length(keypoints, visible, shoulder, hip)


@dataclass(frozen=True)
class PoseMetric:
    """Which PCK is customary for a keypoint set.

    Attributes:
        name: e.g. ``PCK@0.2``.
        threshold: fraction of the reference length.
        keypoints: the joints.
        reference: ``head`` (MPII's head segment), ``torso`` or ``box`` (the longer side of the person box).
        unscored: names of joints left out of the mean.
    """

    name: str
    threshold: float
    keypoints: KeypointSet
    reference: str
    unscored: tuple[str, ...] = ()

    def lengths(self, people: Sequence[Person]) -> NDArray[np.float64]:
        """Reference length of each person ``(P,)`` in image pixels; NaN where it is not known."""
        if not people or self.reference == "box":
            return np.array([max(person.box[2:]) for person in people], np.float64)
        truth = np.stack([person.keypoints for person in people])
        visible = np.stack([person.visible for person in people])
        if self.reference == "torso":
            return torso_length(truth, visible, self.keypoints)
        neck, top = self.keypoints.index("upper_neck"), self.keypoints.index("head_top")
        assert neck is not None
        assert top is not None
        segment = segment_length(truth, visible, neck, top)
        given = np.array([np.nan if person.head_size is None else person.head_size for person in people])
        return np.where(np.isnan(given), segment, given)

    def __call__(
        self, predictions: NDArray[np.floating[Any]], people: Sequence[Person], joints: NDArray[np.intp] | None = None
    ) -> PckResult:
        """Score predictions ``(P, C, 2)`` in image pixels against ``people``.

        Args:
            predictions: of the ``joints``.
            people: with all ``K`` joints, whose lengths are taken whatever was predicted.
            joints: ``(C,)``, which of the joints were predicted; all unless given.
        """
        truth, visible = self._truth(people, joints)
        return pck(predictions, truth, visible, self.lengths(people), self.threshold, self.scored(joints))

    def correct(
        self, predictions: NDArray[np.floating[Any]], people: Sequence[Person], joints: NDArray[np.intp] | None = None
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Which joints are correct ``(P, C)`` and which count ``(P, C)``; arguments as above."""
        truth, visible = self._truth(people, joints)
        return correct_joints(predictions, truth, visible, self.lengths(people), self.threshold)

    def scored(self, joints: NDArray[np.intp] | None = None) -> NDArray[np.bool_]:
        """Which of the joints ``(C,)`` enter the mean."""
        scored = np.array([name not in self.unscored for name in self.keypoints.keypoints])
        return scored if joints is None else scored[joints]

    def _truth(
        self, people: Sequence[Person], joints: NDArray[np.intp] | None
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        count = len(self.keypoints)
        truth = np.array([person.keypoints for person in people], np.float64).reshape(-1, count, 2)
        visible = np.array([person.visible for person in people], bool).reshape(-1, count)
        return (truth, visible) if joints is None else (truth[:, joints], visible[:, joints])


def metric_for(keypoint_set: KeypointSet) -> PoseMetric:
    """PCKh@0.5 for MPII, else PCK@0.2 of the torso; for joints without a torso PCK@0.05 of the box.

    The last is mmpose's default for keypoints that are not a whole person.
    """
    if keypoint_set.keypoints == MPII.keypoints:
        return PoseMetric("PCKh@0.5", 0.5, keypoint_set, "head", MPII_UNSCORED)
    if keypoint_set.index("right_shoulder") is not None and keypoint_set.index("left_hip") is not None:
        return PoseMetric("PCK@0.2", 0.2, keypoint_set, "torso")
    return PoseMetric("PCK@0.05 of the box", 0.05, keypoint_set, "box")
