"""The heatmap codec: keypoints to Gaussian heatmaps, and heatmaps to keypoints.

Shapes are ``(N, K, h, w)`` for heatmaps and ``(N, K, 2)`` for ``(x, y)`` in heatmap pixels.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from bihrnet_edge.errors import UserError
from bihrnet_edge.pose.dark import blur_kernel_for, taylor_steps

#: How a peak is placed between pixels: HRNet's quarter-pixel shift, or DARK's Taylor step.
Decoding = Literal["quarter", "dark"]
DECODINGS: tuple[Decoding, ...] = get_args(Decoding)


def encode(points: NDArray[np.floating[Any]], height: int, width: int, sigma: float) -> NDArray[np.float32]:
    """Gaussians of peak 1 around points ``(N, K, 2)`` in heatmap pixels.

    The peak lies at the sub-pixel position, not at the nearest pixel, so that decoding is unbiased
    (Zhang et al. 2020, DARK).
    """
    x = np.exp(-((np.arange(width) - points[..., :1]) ** 2) / (2 * sigma**2))
    y = np.exp(-((np.arange(height) - points[..., 1:]) ** 2) / (2 * sigma**2))
    heatmaps: NDArray[np.float32] = (y[..., :, None] * x[..., None, :]).astype(np.float32)
    return heatmaps


def decode(
    heatmaps: NDArray[np.float32], decoding: Decoding = "quarter", blur_kernel: int | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Positions ``(N, K, 2)`` in heatmap pixels and scores ``(N, K)``, the peaks' values.

    The rules are HRNet's, so that figures can be compared with its own: of equal maxima the first counts; a
    heatmap that is nowhere positive has no peak and gives ``(0, 0)``; a peak is moved only where
    ``1 < x < w - 1`` and ``1 < y < h - 1`` both hold. A NaN in a heatmap gives ``(0, 0)`` and the score NaN.

    Args:
        heatmaps: ``(N, K, h, w)``.
        decoding: ``quarter`` moves the maximum by a quarter pixel towards the higher of its two neighbours
            along each axis (Newell et al. 2016, HRNet); ``dark`` by :func:`~bihrnet_edge.pose.dark.taylor_steps`
            (Zhang et al. 2020), which also keeps off the second column and row from the end.
        blur_kernel: side of DARK's Gaussian kernel, in heatmap pixels; by the heatmaps' height unless given.

    Raises:
        UserError: there is no such decoding, or the kernel is not odd.
    """
    if decoding not in DECODINGS:
        raise UserError(f"there is no decoding {decoding!r}; choose one of {', '.join(DECODINGS)}.")
    count, joints, height, width = heatmaps.shape
    maps = heatmaps.reshape(count * joints, height, width)
    every = np.arange(len(maps))
    flat = maps.reshape(len(maps), height * width)
    best = flat.argmax(axis=1)
    scores = flat[every, best]
    y, x = np.divmod(np.where(scores > 0, best, 0), width)
    points = np.stack([x, y], axis=-1).astype(np.float64)
    if decoding == "quarter":
        moved = np.flatnonzero((x > 1) & (x < width - 1) & (y > 1) & (y < height - 1))
        m, x, y = every[moved], x[moved], y[moved]
        points[moved, 0] += 0.25 * np.sign(maps[m, y, x + 1] - maps[m, y, x - 1])
        points[moved, 1] += 0.25 * np.sign(maps[m, y + 1, x] - maps[m, y - 1, x])
    else:
        points += taylor_steps(maps, x, y, blur_kernel_for(height) if blur_kernel is None else blur_kernel)
    return points.reshape(count, joints, 2), scores.reshape(count, joints)
