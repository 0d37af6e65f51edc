"""Flip test: the mean of a network's heatmaps for a picture and for its mirror image (Newell et al. 2016, HRNet).

A mirrored input has its pixel ``x`` at ``W - 1 - x``. A heatmap pixel stands for ``stride`` input pixels and lies at
``x / stride``, so mirroring the heatmap back ends ``(stride - 1) / stride`` pixels short of where it began: 3/4 of a
heatmap pixel at stride 4, whether widths are even or odd. HRNet moves it by a whole pixel (``SHIFT_HEATMAP``),
which leaves 1/4.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bihrnet_edge.pose.keypoints import KeypointSet


def flip_order(keypoints: KeypointSet) -> NDArray[np.intp]:
    """For each joint the index ``(K,)`` of the one that it looks like in a mirror; its own where it has no pair."""
    order = np.arange(len(keypoints))
    for left, right in keypoints.flip_pairs:
        order[[left, right]] = right, left
    return order


def mirror_images(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Inputs ``(N, H, W, 3)`` mirrored along x: a copy."""
    return np.ascontiguousarray(images[:, :, ::-1])


def mirror_heatmaps(heatmaps: NDArray[np.float32], keypoints: KeypointSet, shift: bool = True) -> NDArray[np.float32]:
    """Heatmaps ``(N, K, h, w)`` of mirrored inputs as if the inputs had not been mirrored: a copy.

    Args:
        heatmaps: of the mirrored inputs.
        keypoints: the ``K`` joints; left and right ones change places.
        shift: move everything by one pixel to the right, as HRNet does; the first column stays.
    """
    back = heatmaps[:, flip_order(keypoints), :, ::-1]
    if shift:
        back[..., 1:] = back[..., :-1].copy()
    return np.ascontiguousarray(back)


def average(
    heatmaps: NDArray[np.float32], mirrored: NDArray[np.float32], keypoints: KeypointSet, shift: bool = True
) -> NDArray[np.float32]:
    """The mean of the heatmaps ``(N, K, h, w)`` of inputs and of their mirror images."""
    mean: NDArray[np.float32] = (heatmaps + mirror_heatmaps(mirrored, keypoints, shift)) * np.float32(0.5)
    return mean
