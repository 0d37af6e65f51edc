"""What a bench says about its times, and how sure it is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

CONFIDENCE = 0.95
#: Noise: what an idle machine stays below. Ratios of times, 1 where nothing changes.
MAX_TAIL, MAX_DISAGREEMENT = 1.10, 1.05
#: Parts of a run, one after the other, whose medians must agree.
BLOCKS = 4
_RESAMPLES = 2000
_SEED = 0


@dataclass(frozen=True)
class RatioInterval:
    """A ratio of times and its confidence interval.

    Attributes:
        value: the ratio.
        low, high: of the interval; 0 and infinity where there are too few turns to say.
        confidence: of the interval, 0 to 1.
    """

    value: float
    low: float
    high: float
    confidence: float = CONFIDENCE

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high

    @property
    def range(self) -> str:
        """``7.210 to 7.500``, or that there were too few turns."""
        return f"{self.low:.3f} to {self.high:.3f}" if self.low > 0 else "too few turns"


def paired_ratio(times: ArrayLike, base: ArrayLike, confidence: float = CONFIDENCE) -> RatioInterval:
    """How many times as long one contender takes as another, by the turns that they took one after the other.

    The median of the turns' ratios with the interval that inverts the sign test: between two of the sorted ratios, by
    the binomial distribution alone. It supposes that turns are independent, and nothing about their distribution.

    Args:
        times, base: ``(R,)``, milliseconds of each round's turn, above 0.
        confidence: the least that the interval has, 0 to 1.
    """
    ratios = np.sort(np.asarray(times, np.float64) / np.asarray(base, np.float64))
    count = len(ratios)
    rank = _sign_test_rank(count, confidence)
    low, high = (float(ratios[rank - 1]), float(ratios[count - rank])) if rank else (0.0, math.inf)
    return RatioInterval(float(np.median(ratios)), low, high, confidence)


def _sign_test_rank(count: int, confidence: float) -> int:
    """The largest k with P(at most k - 1 of ``count`` fair coins show heads) ≤ (1 - confidence) / 2; 0 if none has."""
    total, rank = 0, 0
    while rank <= count // 2:
        total += math.comb(count, rank)
        if total / 2**count > (1 - confidence) / 2:
            break
        rank += 1
    return rank


def unpaired_ratio(times: ArrayLike, base: ArrayLike, confidence: float = CONFIDENCE) -> RatioInterval:
    """How many times as long a contender takes as in another run: a ratio of medians.

    The interval is a percentile bootstrap that draws whole turns, since inferences of one turn are alike. What differs
    between two runs but not within either (another memory layout, a warmer day) is not in it.

    Args:
        times, base: ``(R,)`` and ``(S,)``, milliseconds of each turn, above 0.
        confidence: of the interval, 0 to 1.
    """
    rng = np.random.default_rng(_SEED)
    medians = []
    for values in (np.asarray(times, np.float64), np.asarray(base, np.float64)):
        drawn = rng.integers(0, len(values), (_RESAMPLES, len(values)))
        medians.append((float(np.median(values)), np.median(values[drawn], axis=1)))
    (value, resampled), (base_value, base_resampled) = medians
    low, high = np.quantile(resampled / base_resampled, [(1 - confidence) / 2, (1 + confidence) / 2])
    return RatioInterval(value / base_value, float(low), float(high), confidence)


@dataclass(frozen=True)
class Noise:
    """How steady a contender's times were.

    Attributes:
        tail: p90 over p50.
        drift: median of the second half of the turns over that of the first.
        disagreement: largest over smallest of the medians of :data:`BLOCKS` parts of the run.
    """

    tail: float
    drift: float
    disagreement: float

    @property
    def reasons(self) -> list[str]:
        """Why the figures are not to be trusted to 5 %; empty on a quiet machine."""
        found = []
        if self.tail > MAX_TAIL:
            found.append(f"p90 is {self.tail:.2f} × p50")
        if max(self.drift, 1 / self.drift) > MAX_DISAGREEMENT:
            found.append(f"the second half took {self.drift:.2f} × the first")
        elif self.disagreement > MAX_DISAGREEMENT:
            found.append(f"medians of quarters of the run differ by {self.disagreement - 1:.0%}")
        return found


def noise_of(turns: Sequence[NDArray[np.float64]]) -> Noise:
    """Of one contender.

    Args:
        turns: every turn's single times in milliseconds, in order; each ``(N,)`` with N ≥ 1.
    """
    times = np.concatenate(turns)
    p50, p90 = np.percentile(times, [50, 90])
    medians = [float(np.median(np.concatenate(part))) for part in _parts(turns, BLOCKS)]
    halves = [float(np.median(np.concatenate(part))) for part in _parts(turns, 2)]
    return Noise(float(p90 / p50), halves[-1] / halves[0], max(medians) / min(medians))


def _parts(turns: Sequence[NDArray[np.float64]], count: int) -> list[list[NDArray[np.float64]]]:
    """``count`` runs of turns of about the same length; fewer where there are fewer turns."""
    edges = np.linspace(0, len(turns), min(count, len(turns)) + 1).round().astype(int)
    return [list(turns[start:end]) for start, end in pairwise(edges)]


def is_steady(medians: Sequence[float], windows: int = 3, within: float = 1.03) -> bool:
    """Whether warming up is over: the medians of the last ``windows`` windows lie within 3 % of each other."""
    last = medians[-windows:]
    return len(last) == windows and max(last) <= within * min(last)


def summary(times: NDArray[np.float64]) -> dict[str, Any]:
    """``min_ms``, ``p50_ms``, ``p90_ms``, ``p99_ms`` of single times in milliseconds."""
    p50, p90, p99 = np.percentile(times, [50, 90, 99])
    return {"min_ms": float(times.min()), "p50_ms": float(p50), "p90_ms": float(p90), "p99_ms": float(p99)}
