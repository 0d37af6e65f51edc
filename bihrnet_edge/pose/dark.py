"""DARK: where a Gaussian peak lies between pixels (Zhang et al. 2020, "Distribution-Aware Coordinate Representation
for Human Pose Estimation", https://arxiv.org/abs/1910.06278).

The logarithm of a Gaussian is a quadratic, whose maximum one Newton step finds. What a network predicts is only
about Gaussian, so it is blurred first.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bihrnet_edge.errors import UserError

#: OpenCV's weights for small kernels, which are not the formula's; DARK's authors blur with OpenCV.
_SMALL_TAPS = {
    1: (1.0,),
    3: (0.25, 0.5, 0.25),
    5: (0.0625, 0.25, 0.375, 0.25, 0.0625),
    7: (0.03125, 0.109375, 0.21875, 0.28125, 0.21875, 0.109375, 0.03125),
}
#: Second differences reach this far from the peak.
_REACH = 2
#: Least value that is given a logarithm, as a part of what the blur makes of the peak; the authors' choice.
_FLOOR = 1e-10
#: No step is longer, in heatmap pixels: half the largest kernel, beyond which the quadratic says nothing.
_LONGEST = 5.0


def blur_kernel_for(height: int) -> int:
    """The side of the blur kernel for heatmaps so high, in heatmap pixels.

    The authors' settings for HRNet: 3 for heatmaps 32 high, whose targets have sigma 1, and 11 for 64 and 96, with
    sigma 2 and 3. What lies between goes to the nearer.
    """
    return 3 if height < 48 else 11


def blur_taps(kernel: int) -> NDArray[np.float64]:
    """Gaussian weights ``(kernel,)`` that sum to 1.

    OpenCV's ``getGaussianKernel`` for no given sigma: a table up to 7, and above it the Gaussian of
    ``0.3 * ((kernel - 1) / 2 - 1) + 0.8``, which is 2.0 for 11.

    Raises:
        UserError: the side is not odd and positive.
    """
    if kernel < 1 or kernel % 2 == 0:
        raise UserError(f"the blur kernel is {kernel} pixels wide; give an odd number, 1 for no blur.")
    if kernel in _SMALL_TAPS:
        return np.array(_SMALL_TAPS[kernel])
    sigma = 0.3 * ((kernel - 1) / 2 - 1) + 0.8
    offsets = np.arange(kernel) - kernel // 2
    taps = np.exp(-(offsets**2) / (2 * sigma**2))
    weights: NDArray[np.float64] = taps / taps.sum()
    return weights


def taylor_steps(
    heatmaps: NDArray[np.float32], x: NDArray[np.integer[Any]], y: NDArray[np.integer[Any]], kernel: int
) -> NDArray[np.float64]:
    """Steps ``(M, 2)``, x and y in heatmap pixels, from the maxima of ``(M, h, w)`` to the peaks between pixels.

    There is no step, 0, where the quadratic has no maximum to step to:

    - closer to the border than the second differences reach: steps need ``1 < x < w - 2`` and ``1 < y < h - 2``;
    - where the blurred heatmap is flat or not concave around the maximum, or nowhere positive;
    - where the step would be longer than 5 pixels.

    The authors' code steps in the last two cases too, wherever the Hessian can be inverted; otherwise the steps are
    the same. As there, pixels outside the heatmap count as 0 for the blur, and values of 1e-10 and less as 1e-10.

    Args:
        heatmaps: ``(M, h, w)``.
        x, y: the maxima, ``(M,)``.
        kernel: side of the blur kernel, odd; 1 for no blur.

    Raises:
        UserError: the kernel's side is not odd and positive.
    """
    taps = blur_taps(kernel)
    height, width = heatmaps.shape[1:]
    steps = np.zeros((len(heatmaps), 2))
    inside = (x >= _REACH) & (x < width - _REACH) & (y >= _REACH) & (y < height - _REACH)
    chosen = np.flatnonzero(inside)
    if not len(chosen):
        return steps
    with np.errstate(all="ignore"):  # NaN and infinity compare false below, and are then no step
        around = _blurred_around(heatmaps, chosen, x[chosen], y[chosen], taps)
        floor = np.full(len(chosen), _FLOOR)  # at most: blurring lowers the maximum
        low = np.flatnonzero(~(around.min(axis=(1, 2)) > _FLOOR))
        if len(low):
            peaks = heatmaps[chosen[low], y[chosen[low]], x[chosen[low]]]
            floor[low] = _FLOOR * _blurred_maximum(heatmaps[chosen[low]], taps) / peaks
        step, maximum = _newton(np.log(np.maximum(around, floor[:, None, None])))
        sound = maximum & (floor > 0) & (np.abs(step).max(axis=1) <= _LONGEST)
    steps[chosen] = np.where(sound[:, None], step, 0.0)
    return steps


def _blurred_around(
    heatmaps: NDArray[np.float32],
    chosen: NDArray[np.intp],
    x: NDArray[np.integer[Any]],
    y: NDArray[np.integer[Any]],
    taps: NDArray[np.float64],
) -> NDArray[np.float64]:
    """The blurred heatmaps at the 5x5 pixels around each maximum; the rest need not be blurred."""
    height, width = heatmaps.shape[1:]
    window = 2 * _REACH + 1
    side = window + len(taps) - 1
    offsets = np.arange(side) - side // 2
    rows, columns = y[:, None] + offsets, x[:, None] + offsets
    exists = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[:, None, :]
    rows, columns = rows.clip(0, height - 1), columns.clip(0, width - 1)
    patches = heatmaps[chosen[:, None, None], rows[:, :, None], columns[:, None, :]].astype(np.float64)
    band = np.zeros((window, side))
    for row in range(window):
        band[row, row : row + len(taps)] = taps
    blurred: NDArray[np.float64] = band @ np.where(exists, patches, 0.0) @ band.T
    return blurred


def _blurred_maximum(heatmaps: NDArray[np.float32], taps: NDArray[np.float64]) -> NDArray[np.float64]:
    """Maxima ``(M,)`` of the whole blurred heatmaps."""

    def band(size: int) -> NDArray[np.float64]:
        half = len(taps) // 2
        rows: NDArray[np.float64] = sum(
            (tap * np.eye(size, k=offset - half) for offset, tap in enumerate(taps)), np.zeros((size, size))
        )
        return rows

    blurred = band(heatmaps.shape[1]) @ heatmaps.astype(np.float64) @ band(heatmaps.shape[2])
    highest: NDArray[np.float64] = blurred.max(axis=(1, 2))
    return highest


def _newton(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Steps ``(M, 2)`` from the centres of ``(M, 5, 5)`` to the quadratic's extremum, and whether it is a maximum."""
    c = _REACH
    gx = (values[:, c, c + 1] - values[:, c, c - 1]) / 2
    gy = (values[:, c + 1, c] - values[:, c - 1, c]) / 2
    xx = (values[:, c, c + 2] - 2 * values[:, c, c] + values[:, c, c - 2]) / 4
    yy = (values[:, c + 2, c] - 2 * values[:, c, c] + values[:, c - 2, c]) / 4
    diagonal = values[:, c + 1, c + 1] + values[:, c - 1, c - 1]
    xy = (diagonal - values[:, c - 1, c + 1] - values[:, c + 1, c - 1]) / 4
    determinant = xx * yy - xy**2
    maximum = (xx < 0) & (determinant > 0)
    divisor = np.where(maximum, determinant, 1.0)
    return np.stack([xy * gy - yy * gx, xy * gx - xx * gy], axis=-1) / divisor[:, None], maximum
