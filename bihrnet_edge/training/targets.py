"""Target heatmaps on the device that trains; the codec itself is :mod:`bihrnet_edge.pose.heatmaps`."""

from __future__ import annotations

import torch
from torch import Tensor


def gaussian_targets(points: Tensor, height: int, width: int, sigma: float) -> Tensor:
    """Gaussians of peak 1 around ``points`` ``(N, K, 2)`` in heatmap pixels, ``(N, K, height, width)``.

    What :func:`bihrnet_edge.pose.heatmaps.encode` gives, in float32.
    """
    columns = torch.arange(width, device=points.device, dtype=points.dtype)
    rows = torch.arange(height, device=points.device, dtype=points.dtype)
    x = torch.exp(-((columns - points[..., :1]) ** 2) / (2 * sigma**2))
    y = torch.exp(-((rows - points[..., 1:]) ** 2) / (2 * sigma**2))
    return y[..., :, None] * x[..., None, :]
