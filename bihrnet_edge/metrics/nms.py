"""Rescoring and non-maximum suppression of predicted people, as HRNet evaluates detector boxes on COCO.

Detectors box one person several times. A pose is scored by its box and its joints, and goes where a better
one lies on the same joints (HRNet, Sun et al. 2019; OKS-NMS: Papandreou et al. 2017).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bihrnet_edge.metrics.oks import COCO_SIGMAS, oks

#: HRNet's ``TEST.IN_VIS_THRE``: joints with less do not enter the score.
JOINT_THRESHOLD = 0.2
#: HRNet's ``TEST.OKS_THRE``.
OKS_THRESHOLD = 0.9


def rescore(
    box_scores: NDArray[np.floating[Any]],
    joint_scores: NDArray[np.floating[Any]],
    threshold: float = JOINT_THRESHOLD,
) -> NDArray[np.float64]:
    """Score of each pose ``(N,)``: its box's times the mean of its joints' above ``threshold``; 0 without any.

    Args:
        box_scores: ``(N,)``; 1 for ground-truth boxes.
        joint_scores: ``(N, K)``, the heatmaps' maxima.
    """
    scores = np.asarray(joint_scores, np.float64)
    sure = scores > threshold
    mean = np.where(sure, scores, 0.0).sum(axis=1) / np.maximum(sure.sum(axis=1), 1)
    return np.asarray(mean * np.asarray(box_scores, np.float64))


def oks_nms(
    keypoints: NDArray[np.floating[Any]],
    scores: NDArray[np.floating[Any]],
    areas: NDArray[np.floating[Any]],
    threshold: float = OKS_THRESHOLD,
    sigmas: NDArray[np.float64] = COCO_SIGMAS,
) -> NDArray[np.intp]:
    """Indices of the poses of one image that stay, best first; of equal scores the earlier one is the better.

    Best first, a pose stays unless its OKS with one that stayed exceeds ``threshold``. Two poses are compared
    over all joints, with the mean of their areas.

    Args:
        keypoints: ``(N, K, 2)`` in pixels; a NaN joint resembles none.
        scores: ``(N,)``.
        areas: ``(N,)`` in square pixels. HRNet takes the padded crop's, not the box's.
        sigmas: ``(K,)``.
    """
    points, sizes = np.asarray(keypoints, np.float64), np.asarray(areas, np.float64)
    left = np.argsort(-np.asarray(scores, np.float64), kind="stable")
    kept: list[int] = []
    while left.size:
        best, left = left[0], left[1:]
        kept.append(int(best))
        similarity = oks(points[left], points[best], (sizes[left] + sizes[best]) / 2, sigmas)
        left = left[similarity <= threshold]
    return np.array(kept, np.intp)


def oks_nms_by_image(
    image_ids: NDArray[np.int64],
    keypoints: NDArray[np.floating[Any]],
    scores: NDArray[np.floating[Any]],
    areas: NDArray[np.floating[Any]],
    threshold: float = OKS_THRESHOLD,
    sigmas: NDArray[np.float64] = COCO_SIGMAS,
) -> NDArray[np.intp]:
    """:func:`oks_nms` within each image; ascending indices into the ``N`` poses of any number of images."""
    if not len(image_ids):
        return np.empty(0, np.intp)
    order = np.argsort(image_ids, kind="stable")
    starts = np.flatnonzero(np.diff(image_ids[order])) + 1
    kept = [
        rows[oks_nms(keypoints[rows], scores[rows], areas[rows], threshold, sigmas)] for rows in np.split(order, starts)
    ]
    return np.sort(np.concatenate(kept))
