"""How sure a measured drop is: paired bootstrap intervals, and how far paired keypoints lie apart.

Both models see the same people, so what differs between them is resampled, not each by itself. People of one image
are not independent (light, crowding, a shared crop), so whole images are drawn: a cluster bootstrap with percentile
intervals (Davison & Hinkley 1997, sections 3.8 and 5.3.1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bihrnet_edge.errors import UserError

RESAMPLES = 2000
CONFIDENCE = 0.95
#: Draws held at once, which bounds the memory: 32 MB of indices.
_DRAWS = 4_000_000


@dataclass(frozen=True)
class Interval:
    """A value and its confidence interval; NaN where nothing was counted."""

    value: float
    low: float
    high: float

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high

    @property
    def width(self) -> float:
        return self.high - self.low


@dataclass(frozen=True)
class PairedDrop:
    """A metric of two models on the same people.

    Attributes:
        reference, artifact: the metric of either, in per cent.
        drop: ``reference - artifact`` in points with its interval; above 0 where the artifact is worse.
        per_joint: the drop of each joint alone; empty where the metric has no joints.
        reference_per_joint, artifact_per_joint: the metric of each joint alone; NaN where it never counts.
        people, images: how many were drawn from.
        resamples, confidence: of the interval.
    """

    reference: float
    artifact: float
    drop: Interval
    per_joint: tuple[Interval, ...]
    reference_per_joint: tuple[float, ...]
    artifact_per_joint: tuple[float, ...]
    people: int
    images: int
    resamples: int
    confidence: float

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def paired_bootstrap(
    reference: ArrayLike,
    artifact: ArrayLike,
    counted: ArrayLike,
    images: ArrayLike,
    *,
    scored: NDArray[np.bool_] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
    confidence: float = CONFIDENCE,
) -> PairedDrop:
    """The drop of a share: correct joints per hundred that were counted (PCK, PCKh).

    Args:
        reference, artifact: ``(P, K)`` or ``(P,)``: joints that either model has right, as flags or numbers.
        counted: of the same shape: joints that count, for both.
        images: ``(P,)``, which image each person is in; any values that can be compared.
        scored: ``(K,)``, joints that enter the metric; all unless given. ``per_joint`` has every joint.
        resamples: drawn by ``seed``.
        confidence: of the interval, between 0 and 1.

    Raises:
        UserError: there are no people, or an argument is out of range.
        ValueError: shapes differ.
    """
    weights = _table(counted)
    right = [np.where(weights > 0, _table(values), 0.0) for values in (reference, artifact)]
    clusters, count = _clusters(images)
    if any(table.shape != weights.shape for table in right) or len(clusters) != len(weights):
        shapes = [np.shape(values) for values in (reference, artifact, counted, images)]
        raise ValueError(f"reference, artifact, counted and images have shapes {shapes}")
    _check(count, resamples, confidence)

    joints = weights.shape[1]
    chosen = np.ones(joints, bool) if scored is None else np.asarray(scored, bool)
    # Differences are summed before anything is divided: equal models differ by 0 exactly, in every resample.
    difference, weights = _with_total(right[0] - right[1], chosen), _with_total(weights, chosen)
    sums = np.zeros((count, 2 * (joints + 1)))
    np.add.at(sums, clusters, np.concatenate([difference, weights], axis=1))
    drops = np.concatenate([_ratio(times @ sums, joints + 1) for times in _times_drawn(count, resamples, seed)])
    values = _ratio(sums.sum(axis=0, keepdims=True), joints + 1)[0]
    intervals = [_interval(value, drops[:, column], confidence) for column, value in enumerate(values)]
    one, other = (
        _ratio(np.r_[_with_total(table, chosen).sum(0), weights.sum(0)][None], joints + 1)[0] for table in right
    )
    has_joints = np.ndim(counted) == 2
    return PairedDrop(
        reference=float(one[0]),
        artifact=float(other[0]),
        drop=intervals[0],
        per_joint=tuple(intervals[1:]) if has_joints else (),
        reference_per_joint=tuple(one[1:].tolist()) if has_joints else (),
        artifact_per_joint=tuple(other[1:].tolist()) if has_joints else (),
        people=len(clusters),
        images=count,
        resamples=resamples,
        confidence=confidence,
    )


def paired_bootstrap_of(
    metric: Callable[[NDArray[np.intp]], tuple[float, float]],
    images: ArrayLike,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    confidence: float = CONFIDENCE,
    progress: Callable[[int, int], None] | None = None,
) -> PairedDrop:
    """The drop of any metric, one that is no share among them (AP); draws the same images as the other.

    Args:
        metric: indices of people, repeated as they were drawn, to the metric of the reference and of the artifact.
        images: ``(P,)``, which image each person is in.
        resamples: how often ``metric`` is called, but for once.
        seed, confidence: as in :func:`paired_bootstrap`.
        progress: called with the resamples done and the resamples in all.

    Raises:
        UserError: there are no people, or an argument is out of range.
    """
    clusters, count = _clusters(images)
    _check(count, resamples, confidence)
    order = np.argsort(clusters, kind="stable")
    members = np.split(order, np.cumsum(np.bincount(clusters, minlength=count))[:-1])
    reference, artifact = metric(np.arange(len(clusters)))
    drops = np.empty(resamples)
    done = 0
    for draws in _draws(count, resamples, seed):
        for drawn in draws:
            one, other = metric(np.concatenate([members[cluster] for cluster in drawn]))
            drops[done] = one - other
            done += 1
            if progress is not None:
                progress(done, resamples)
    drop = _interval(reference - artifact, drops, confidence)
    return PairedDrop(reference, artifact, drop, (), (), (), len(clusters), count, resamples, confidence)


def _table(values: ArrayLike) -> NDArray[np.float64]:
    table = np.asarray(values, np.float64)
    return table[:, None] if table.ndim == 1 else table


def _clusters(images: ArrayLike) -> tuple[NDArray[np.intp], int]:
    """The number of each person's image, counted from 0, and how many images there are."""
    names, clusters = np.unique(np.asarray(images), return_inverse=True)
    return clusters.reshape(-1), len(names)


def _check(count: int, resamples: int, confidence: float) -> None:
    if count < 1:
        raise UserError("there are no people to compare the models on; give data with labelled people.")
    if resamples < 1 or not 0 < confidence < 1:
        raise UserError(
            f"a bootstrap of {resamples} resamples at confidence {confidence:g} is not possible; give 1 resample or "
            "more and a confidence between 0 and 1."
        )


def _draws(count: int, resamples: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """Numbers of images drawn with replacement, ``(r, count)`` at a time, ``resamples`` rows in all."""
    rng = np.random.default_rng(seed)
    step = max(1, _DRAWS // count)
    for start in range(0, resamples, step):
        yield rng.integers(0, count, (min(step, resamples - start), count))


def _times_drawn(count: int, resamples: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """How often each image was drawn, ``(r, count)`` at a time."""
    for draws in _draws(count, resamples, seed):
        places = draws + count * np.arange(len(draws))[:, None]
        yield np.bincount(places.ravel(), minlength=draws.size).reshape(draws.shape).astype(np.float64)


def _with_total(table: NDArray[np.float64], scored: NDArray[np.bool_]) -> NDArray[np.float64]:
    """``(P, 1 + K)``: the sum over the scored joints before the joints."""
    return np.concatenate([table[:, scored].sum(axis=1, keepdims=True), table], axis=1)


def _ratio(sums: NDArray[np.float64], columns: int) -> NDArray[np.float64]:
    """Per cent: the first ``columns`` by the others; NaN where those are 0."""
    above, below = sums[:, :columns], sums[:, columns:]
    return np.divide(100.0 * above, below, out=np.full(above.shape, np.nan), where=below > 0)


def _interval(value: float, resampled: NDArray[np.float64], confidence: float) -> Interval:
    """Percentiles of the resamples in which something was counted."""
    known = resampled[np.isfinite(resampled)]
    if not len(known):
        return Interval(float(value), float("nan"), float("nan"))
    low, high = np.quantile(known, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(value), float(low), float(high))
