"""From the values that an activation had to the range that int8 shall hold: what lies outside saturates.

Four observers, each a function of a :class:`~bihrnet_edge.calibration.histogram.Histogram`:

- ``minmax``: all values. One outlier costs everyone resolution.
- ``percentile``: all but a share of the values, half of it at either end (Wu et al. 2020, section 3.3).
- ``entropy``: the range whose quantised distribution is the least surprised by the real one, measured by the
  Kullback-Leibler divergence (Migacz 2017, "8-bit inference with TensorRT").
- ``mse``: the range with the least mean squared error of rounding and saturating (Choukroun et al. 2019).

The last two shrink the range of all values by one factor for both ends, and try :data:`STEPS` of them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from bihrnet_edge.calibration.histogram import Histogram
from bihrnet_edge.calibration.observer_names import PERCENTILE, ObserverName

LEVELS = 256
#: Factors that ``entropy`` and ``mse`` try, and the least of them.
STEPS, LEAST = 64, 0.2
#: Takes the place of empty quantised bins, so that no divergence is infinite.
_FLOOR = 1e-12

Range = tuple[float, float]


def observe(histogram: Histogram, observer: ObserverName, percentile: float = PERCENTILE) -> Range:
    """The range ``(low, high)`` that an observer gives a tensor, within the values that occurred and holding zero.

    Args:
        histogram: of at least one value.
        observer: one of :data:`~bihrnet_edge.calibration.observer_names.OBSERVERS`.
        percentile: for ``percentile``: per cent of the values that stay inside, above 0 and up to 100.
    """
    if observer == "percentile":
        return _with_zero(*_percentile(histogram, percentile))
    whole = _with_zero(histogram.low, histogram.high)
    if observer == "minmax" or whole[0] == whole[1]:
        return whole
    loss = _divergence if observer == "entropy" else _squared_error
    return _search(histogram, whole, loss)


def factors() -> NDArray[np.float64]:
    """What ``entropy`` and ``mse`` multiply the whole range by, the whole first."""
    return np.linspace(1.0, LEAST, STEPS)


def _with_zero(low: float, high: float) -> Range:
    return min(low, 0.0), max(high, 0.0)


def _percentile(histogram: Histogram, percentile: float) -> Range:
    """Edges of the outermost bins left when half of the share outside is dropped at either end."""
    outside = (1.0 - percentile / 100.0) / 2.0 * int(histogram.counts.sum())
    first = int(np.searchsorted(np.cumsum(histogram.counts), outside, side="right"))
    last = int(np.searchsorted(np.cumsum(histogram.counts[::-1]), outside, side="right"))
    half = len(histogram.counts) // 2
    low, high = (first - half) * histogram.width, (half - last) * histogram.width
    return max(low, histogram.low), min(high, histogram.high)


def _search(histogram: Histogram, whole: Range, loss: Callable[[Histogram, Range], float]) -> Range:
    ranges = [(whole[0] * factor, whole[1] * factor) for factor in factors()]
    losses = [loss(histogram, candidate) for candidate in ranges]
    return ranges[int(np.argmin(losses))]


def _squared_error(histogram: Histogram, candidate: Range) -> float:
    """Sum over the values of the squared distance to the nearest of 256 levels."""
    low, high = candidate
    used = histogram.counts > 0
    values, counts = histogram.centers[used], histogram.counts[used]
    step = (high - low) / (LEVELS - 1)
    levels = low + np.rint((np.clip(values, low, high) - low) / step) * step
    return float((counts * (values - levels) ** 2).sum())


def _divergence(histogram: Histogram, candidate: Range) -> float:
    """KL(p, q): p is the distribution with what saturates at its ends, q that of 256 levels spread over used bins."""
    low, high = candidate
    used = histogram.counts > 0
    values, counts = histogram.centers[used], histogram.counts[used].astype(np.float64)
    inside = (values >= low) & (values <= high)
    if not inside.any():
        return np.inf
    level = np.clip(((values - low) / (high - low) * LEVELS).astype(np.int64), 0, LEVELS - 1)
    # q only knows what is inside; its mass of a level is spread evenly over the bins that are in use there.
    mass = np.bincount(level[inside], counts[inside], LEVELS)
    bins = np.bincount(level[inside], minlength=LEVELS)
    q = np.maximum((mass / np.maximum(bins, 1))[level[inside]], _FLOOR)
    p = counts[inside].copy()
    p[0] += counts[values < low].sum()
    p[-1] += counts[values > high].sum()
    p, q = p / p.sum(), q / q.sum()
    return float((p * np.log(p / q)).sum())
