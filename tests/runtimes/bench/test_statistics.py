from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bihrnet_edge.runtimes.bench.statistics import (
    Noise,
    RatioInterval,
    is_steady,
    noise_of,
    paired_ratio,
    summary,
    unpaired_ratio,
)

stats = pytest.importorskip("scipy.stats")
TIMES = st.lists(st.floats(0.1, 1000), min_size=1, max_size=60)


@settings(deadline=None)
@given(TIMES, st.integers(0, 2**32 - 1), st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_the_interval_of_paired_turns_is_that_of_the_binomial_distribution(
    times: list[float], seed: int, confidence: float
) -> None:
    base = np.random.default_rng(seed).uniform(0.1, 10, len(times))
    got = paired_ratio(times, base, confidence)
    ratios = np.sort(np.array(times) / base)
    assert got.value == np.median(ratios)
    rank = int(stats.binom.ppf((1 - confidence) / 2, len(times), 0.5))  # the first with P(X ≤ rank) ≥ alpha / 2
    if stats.binom.cdf(rank, len(times), 0.5) <= (1 - confidence) / 2:
        rank += 1
    low, high = (ratios[rank - 1], ratios[-rank]) if rank else (0.0, math.inf)
    assert (got.low, got.high) == (low, high)
    assert got.value in got


def test_the_paired_interval_holds_the_true_ratio_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(2000):
        drift = rng.lognormal(0, 0.5, 20)  # what the machine does hits both
        base, times = drift * rng.lognormal(0, 0.1, 20), 7.0 * drift * rng.lognormal(0, 0.1, 20)
        interval = paired_ratio(times, base)
        held += 7.0 in interval
        assert interval.high / interval.low < 1.5
    assert 0.95 <= held / 2000 < 0.99


def test_too_few_turns_say_nothing() -> None:
    assert paired_ratio([2.0] * 5, [1.0] * 5).range == "too few turns"
    assert paired_ratio([2.0] * 6, [1.0] * 6).range == "2.000 to 2.000"


def test_the_unpaired_interval_holds_the_true_ratio() -> None:
    rng = np.random.default_rng(2)
    held = [1.2 in unpaired_ratio(1.2 * rng.lognormal(0, 0.05, 20), rng.lognormal(0, 0.05, 20)) for _ in range(300)]
    assert np.mean(held) > 0.9
    same = unpaired_ratio([5.0] * 20, [5.0] * 30)
    assert (same.value, same.low, same.high) == (1, 1, 1)


def test_ratios_do_not_depend_on_the_unit() -> None:
    rng = np.random.default_rng(3)
    times, base = rng.uniform(1, 2, 20), rng.uniform(1, 2, 20)
    one, other = unpaired_ratio(times, base), unpaired_ratio(1000 * times, 1000 * base)
    np.testing.assert_allclose([one.value, one.low, one.high], [other.value, other.low, other.high])


def test_noise_of_a_quiet_and_of_a_noisy_machine() -> None:
    rng = np.random.default_rng(4)

    def turns(*factors: float) -> list[np.ndarray[tuple[int], np.dtype[np.float64]]]:
        return [factor * rng.normal(10, 0.05, 5) for factor in factors]

    assert noise_of(turns(*[1.0] * 20)).reasons == []
    (drifted,) = noise_of(turns(*[1.0] * 10, *[1.08] * 10)).reasons
    assert drifted == "the second half took 1.08 × the first"
    (uneven,) = noise_of(turns(*[1.0] * 5, *[1.08] * 5, *[1.0] * 5, *[1.08] * 5)).reasons
    assert "medians of quarters of the run differ by 8%" in uneven
    (tail,) = noise_of([np.array([10, 10, 10, 13.0])] * 20).reasons
    assert tail == "p90 is 1.30 × p50"
    assert noise_of([np.array([10.0])]) == Noise(1.0, 1.0, 1.0)


@settings(deadline=None)
@given(st.lists(st.lists(st.floats(0.1, 100), min_size=1, max_size=4), min_size=1, max_size=30))
def test_noise_of_any_turns(turns: list[list[float]]) -> None:
    noise = noise_of([np.array(turn) for turn in turns])
    assert noise.tail >= 1
    assert noise.disagreement >= 1
    assert noise.drift > 0


def test_warming_up() -> None:
    assert not is_steady([10, 10])
    assert not is_steady([20, 10, 10])
    assert is_steady([20, 10, 10.2, 10.1])
    assert not is_steady([10, 10, 10, 10.4])


def test_summary() -> None:
    assert summary(np.arange(1.0, 102.0)) == {"min_ms": 1.0, "p50_ms": 51.0, "p90_ms": 91.0, "p99_ms": 100.0}


def test_a_value_is_in_its_interval_or_not() -> None:
    assert 1.0 in RatioInterval(1.1, 0.9, 1.2)
    assert 1.3 not in RatioInterval(1.1, 0.9, 1.2)
