"""The heatmap codec: keypoints to Gaussian heatmaps, and heatmaps to keypoints.

Shapes are ``(N, K, h, w)`` for heatmaps and ``(N, K, 2)`` for ``(x, y)`` in heatmap pixels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def encode(points: NDArray[np.floating[Any]], height: int, width: int, sigma: float) -> NDArray[np.float32]:
    """Gaussians of peak 1 around points ``(N, K, 2)`` in heatmap pixels.

    The peak lies at the sub-pixel position, not at the nearest pixel, so that decoding is unbiased
    (Zhang et al. 2020, DARK).
    """
    x = np.exp(-((np.arange(width) - points[..., :1]) ** 2) / (2 * sigma**2))
    y = np.exp(-((np.arange(height) - points[..., 1:]) ** 2) / (2 * sigma**2))
    heatmaps: NDArray[np.float32] = (y[..., :, None] * x[..., None, :]).astype(np.float32)
    return heatmaps


def decode(heatmaps: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Positions ``(N, K, 2)`` in heatmap pixels and scores ``(N, K)``, the peaks' values.

    The maximum, moved by a quarter pixel towards the higher of its two neighbours along each axis
    (Newell et al. 2016). At the border there is no second neighbour and no move along that axis.
    """
    count, joints, height, width = heatmaps.shape
    flat = heatmaps.reshape(count, joints, height * width)
    best = flat.argmax(axis=2)
    scores = np.take_along_axis(flat, best[..., None], axis=2)[..., 0]
    y, x = np.divmod(best, width)

    rows = np.arange(count)[:, None]
    columns = np.arange(joints)[None, :]

    def slope(dx: int, dy: int) -> NDArray[np.float64]:
        inside = (x >= dx) & (x < width - dx) & (y >= dy) & (y < height - dy)
        ahead = heatmaps[rows, columns, np.minimum(y + dy, height - 1), np.minimum(x + dx, width - 1)]
        behind = heatmaps[rows, columns, np.maximum(y - dy, 0), np.maximum(x - dx, 0)]
        return np.where(inside, np.sign(ahead - behind), 0.0)

    points = np.stack([x + 0.25 * slope(1, 0), y + 0.25 * slope(0, 1)], axis=-1)
    return points, scores
