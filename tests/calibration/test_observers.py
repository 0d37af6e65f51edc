"""Histograms that do not depend on batches, and observers against formulas of their own on the values themselves."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from bihrnet_edge.calibration.histogram import HALF, Histogram
from bihrnet_edge.calibration.observers import LEAST, LEVELS, STEPS, observe
from bihrnet_edge.errors import UserError

Values = NDArray[np.float32]


def histogram_of(*parts: Values) -> Histogram:
    histogram = Histogram()
    for part in parts:
        histogram.add(part, "x")
    return histogram


@st.composite
def samples(draw: st.DrawFn) -> Values:
    """Some hundred values: a bell, shifted, with outliers or without, of any size."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    size = draw(st.integers(2, 400))
    values = rng.standard_normal(size) + draw(st.sampled_from([0.0, 0.5, 3.0, -8.0]))
    values[: draw(st.integers(0, 5))] *= draw(st.sampled_from([1.0, 5.0, 40.0]))
    return (values * 10.0 ** draw(st.integers(-4, 4))).astype(np.float32)


@given(samples(), st.integers(1, 7), st.randoms())
@settings(max_examples=20, deadline=None)
def test_histogram_does_not_depend_on_batches_nor_on_their_order(values: Values, parts: int, random: object) -> None:
    whole = histogram_of(values)
    pieces = np.array_split(values, parts)
    random.shuffle(pieces)  # type: ignore[attr-defined]
    split = histogram_of(*pieces)
    assert (split.counts == whole.counts).all()
    assert (split.exponent, split.low, split.high) == (whole.exponent, whole.low, whole.high)


@given(samples())
@settings(max_examples=20, deadline=None)
def test_histogram_counts_as_numpy_does(values: Values) -> None:
    histogram = histogram_of(values)
    edges = (np.arange(2 * HALF + 1) - HALF) * histogram.width
    expected, _ = np.histogram(values.astype(np.float64), edges)
    assert (histogram.counts == expected).all()
    assert (histogram.low, histogram.high) == (values.min(), values.max())
    assert max(abs(histogram.low), abs(histogram.high)) >= HALF // 2 * histogram.width  # no wider than needed


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e31])
def test_values_that_are_no_activations_are_refused(bad: float) -> None:
    values = np.zeros((2, 3))
    values[1, 1] = bad
    with pytest.raises(UserError, match=r"1 of 6 values of the activation 'stage1\.x' are NaN, infinite or beyond"):
        Histogram().add(values, "stage1.x")


@given(samples())
@settings(max_examples=15, deadline=None)
def test_minmax(values: Values) -> None:
    assert observe(histogram_of(values), "minmax") == (min(values.min(), 0), max(values.max(), 0))


@given(samples(), st.sampled_from([50.0, 90.0, 99.0, 99.99, 100.0]))
@settings(max_examples=25, deadline=None)
def test_percentile_is_numpys_to_a_bin(values: Values, percentile: float) -> None:
    histogram = histogram_of(values)
    low, high = observe(histogram, "percentile", percentile)
    tail = (100 - percentile) / 2
    # A bin is a value's neighbourhood, so that between two values either may be met.
    lows = [np.percentile(values.astype(float), tail, method=m) for m in ("inverted_cdf", "higher", "lower")]
    highs = [np.percentile(values.astype(float), 100 - tail, method=m) for m in ("inverted_cdf", "higher", "lower")]
    slack = histogram.width * 1.001
    assert min(min(lows) - slack, 0) <= low <= min(max(lows) + slack, 0)
    assert max(min(highs) - slack, 0) <= high <= max(max(highs) + slack, 0)


def candidates(values: Values) -> list[tuple[float, float]]:
    low, high = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
    return [(low * f, high * f) for f in (1 + (LEAST - 1) * i / (STEPS - 1) for i in range(STEPS))]


def squared_error(values: Values, ends: tuple[float, float]) -> float:
    """To the nearer of the two levels beside each value."""
    levels = np.linspace(ends[0], ends[1], LEVELS)
    above = np.clip(np.searchsorted(levels, values), 1, LEVELS - 1)
    distances = np.minimum(np.abs(values - levels[above]), np.abs(values - levels[above - 1]))
    return float((distances**2).mean())


@given(samples())
@settings(max_examples=10, deadline=None)
def test_mse_is_what_brute_force_finds(values: Values) -> None:
    histogram = histogram_of(values)
    found = observe(histogram, "mse")
    errors = [squared_error(values, ends) for ends in candidates(values)]
    # The histogram knows a value to half a bin, which moves an error by no more than this.
    half = histogram.width / 2
    slack = 2 * (2 * math.sqrt(min(errors)) * half + half**2) + 1e-12 * max(errors)
    assert squared_error(values, found) <= min(errors) + slack
    assert min(abs(found[0] - low) + abs(found[1] - high) for low, high in candidates(values)) < 1e-6 * (
        found[1] - found[0] + 1e-30
    )


def divergence(values: list[float], counts: list[float], ends: tuple[float, float]) -> float:
    """KL of Migacz's slides in plain loops: clip P's outliers into its ends, spread Q over the bins in use."""
    low, high = ends
    inside = [i for i, value in enumerate(values) if low <= value <= high]
    if not inside:
        return math.inf
    levels: dict[int, list[int]] = {}
    for i in inside:
        levels.setdefault(min(max(int((values[i] - low) / (high - low) * LEVELS), 0), LEVELS - 1), []).append(i)
    p = {i: counts[i] for i in inside}
    p[inside[0]] += sum(c for v, c in zip(values, counts, strict=True) if v < low)
    p[inside[-1]] += sum(c for v, c in zip(values, counts, strict=True) if v > high)
    q = {i: sum(counts[j] for j in members) / len(members) for members in levels.values() for i in members}
    p_sum, q_sum = sum(p.values()), sum(q.values())
    return sum(p[i] / p_sum * math.log(p[i] / p_sum / (q[i] / q_sum)) for i in inside)


@given(samples())
@settings(max_examples=5, deadline=None)
def test_entropy_is_what_a_loop_over_bins_finds(values: Values) -> None:
    histogram = histogram_of(values)
    used = np.flatnonzero(histogram.counts)
    centers, counts = histogram.centers[used].tolist(), histogram.counts[used].astype(float).tolist()
    losses = [divergence(centers, counts, ends) for ends in candidates(values)]
    found = observe(histogram, "entropy")
    assert divergence(centers, counts, found) <= min(losses) + 1e-9


def test_outliers_are_cut_off_by_all_but_minmax() -> None:
    values = np.append(np.random.default_rng(0).standard_normal(200_000), 60.0).astype(np.float32)
    histogram = histogram_of(values)
    highest = {name: observe(histogram, name)[1] for name in ("minmax", "percentile", "entropy", "mse")}  # type: ignore[arg-type]
    assert highest["minmax"] == 60.0
    assert 3.0 < highest["percentile"] < 5.0
    assert 10.0 < highest["mse"] < 55.0
    assert highest["entropy"] < 60.0
