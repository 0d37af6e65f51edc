"""A histogram of real values whose bins do not depend on the order in which the values come."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bihrnet_edge.errors import UserError

#: Bins on either side of zero.
HALF = 4096
#: Values smaller than HALF times 2**this share the innermost bins: far below any activation that matters.
_LEAST_EXPONENT = -40
_MOST_EXPONENT = 100


class Histogram:
    """Counts of values in ``2 * HALF`` bins of width ``2**exponent``, the middle edge at zero.

    Where a value falls outside, the width doubles and neighbouring bins are joined, which is exact. So the counts
    depend on the values alone, not on the batches they come in, and histograms of parts add up to that of the whole.

    Attributes:
        counts: int64 ``(2 * HALF,)``.
        exponent: of the bins' width.
        low, high: the least and the greatest value; infinities of the other sign while there is none.

    Example:
        >>> histogram = Histogram()
        >>> histogram.add(np.array([0.5, -1.0]), "x")
        >>> histogram.low, histogram.high, int(histogram.counts.sum())
        (-1.0, 0.5, 2)
    """

    def __init__(self) -> None:
        self.counts: NDArray[np.int64] = np.zeros(2 * HALF, np.int64)
        self.exponent = _LEAST_EXPONENT
        self.low, self.high = np.inf, -np.inf

    def add(self, values: NDArray[np.floating], name: str) -> None:  # type: ignore[type-arg]
        """Count values of any shape.

        Raises:
            UserError: one is NaN, infinite or beyond 1e30; says how many, and of which tensor ``name``.
        """
        if not values.size:
            return
        low, high = float(values.min()), float(values.max())
        if not max(abs(low), abs(high)) < 1e30:  # NaN included
            bad = int((~(np.abs(values) < 1e30)).sum())
            raise UserError(
                f"{bad} of {values.size} values of the activation {name!r} are NaN, infinite or beyond 1e30; the "
                "checkpoint is not usable, train again from an earlier one."
            )
        self.low, self.high = min(self.low, low), max(self.high, high)
        self._widen(max(abs(low), abs(high)))
        bins = np.floor(np.ldexp(values.ravel(), -self.exponent)).astype(np.int64) + HALF
        self.counts += np.bincount(bins, minlength=2 * HALF)

    def _widen(self, magnitude: float) -> None:
        """Join bins until every value of at most this magnitude has one."""
        while magnitude >= np.ldexp(HALF, self.exponent) and self.exponent < _MOST_EXPONENT:
            joined = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts = np.zeros_like(self.counts)
            self.counts[HALF // 2 : HALF // 2 + HALF] = joined
            self.exponent += 1

    @property
    def width(self) -> float:
        """Of a bin."""
        return float(np.ldexp(1.0, self.exponent))

    @property
    def centers(self) -> NDArray[np.float64]:
        """Of the bins, kept within the values that occurred."""
        middle = (np.arange(2 * HALF) - HALF + 0.5) * self.width
        return np.clip(middle, self.low, self.high)
