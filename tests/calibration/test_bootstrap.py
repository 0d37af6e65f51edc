"""Intervals against a plain loop over the same draws, a closed form, and a simulation with a known truth."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from bihrnet_edge.calibration import bootstrap
from bihrnet_edge.calibration.bootstrap import Interval, PairedDrop, paired_bootstrap, paired_bootstrap_of
from bihrnet_edge.errors import UserError

seeds = st.integers(0, 2**32 - 1)


def people_of(seed: int, people: int, joints: int) -> tuple[NDArray[Any], ...]:
    rng = np.random.default_rng(seed)
    counted = rng.random((people, joints)) < 0.7
    reference = counted & (rng.random((people, joints)) < 0.8)
    artifact = counted & (rng.random((people, joints)) < 0.7)
    return reference, artifact, counted, rng.integers(0, max(1, people // 2), people)


def drops_by_loops(
    reference: NDArray[Any],
    artifact: NDArray[Any],
    counted: NDArray[Any],
    images: NDArray[Any],
    resamples: int,
    seed: int,
) -> list[list[float]]:
    """For each resample the drop over all joints, then of each joint."""
    members = [np.flatnonzero(images == image).tolist() for image in sorted(set(images.tolist()))]
    indices = np.random.default_rng(seed).integers(0, len(members), (resamples, len(members)))
    drops = []
    for row in indices.tolist():
        people = [person for cluster in row for person in members[cluster]]
        columns = [list(range(counted.shape[1]))] + [[joint] for joint in range(counted.shape[1])]
        one = []
        for column in columns:
            right = [sum(int(table[p, k]) for p in people for k in column) for table in (reference, artifact)]
            total = sum(int(counted[p, k]) for p in people for k in column)
            one.append(100 * right[0] / total - 100 * right[1] / total if total else math.nan)
        drops.append(one)
    return drops


def percentile(values: list[float], part: float) -> float:
    """Linear between the ordered values."""
    ordered = sorted(value for value in values if not math.isnan(value))
    if not ordered:
        return math.nan
    place = part * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


@given(seeds, st.integers(1, 12), st.integers(1, 3), st.sampled_from([0.5, 0.9, 0.95]))
def test_equals_a_plain_loop(seed: int, people: int, joints: int, confidence: float) -> None:
    tables = people_of(seed, people, joints)
    result = paired_bootstrap(*tables, resamples=20, seed=seed, confidence=confidence)
    columns = list(zip(*drops_by_loops(*tables, 20, seed), strict=True))
    for interval, column in zip((result.drop, *result.per_joint), columns, strict=True):
        expected = [percentile(list(column), (1 - confidence) / 2), percentile(list(column), (1 + confidence) / 2)]
        assert [interval.low, interval.high] == pytest.approx(expected, abs=1e-9, nan_ok=True)
    reference, artifact, counted, images = tables
    if counted.any():
        assert result.reference == pytest.approx(100 * reference.sum() / counted.sum())
        assert result.artifact == pytest.approx(100 * artifact.sum() / counted.sum())
        assert result.drop.value == pytest.approx(result.reference - result.artifact)
    else:
        assert math.isnan(result.drop.value)
    assert (result.people, result.images) == (people, len(set(images.tolist())))
    for joint in range(joints):
        total = counted[:, joint].sum()
        for right, found in ((reference, result.reference_per_joint), (artifact, result.artifact_per_joint)):
            expected = 100 * right[:, joint].sum() / total if total else math.nan
            assert found[joint] == pytest.approx(expected, nan_ok=True)


@given(seeds, st.integers(1, 12))
def test_any_metric_draws_the_same_people(seed: int, people: int) -> None:
    reference, artifact, counted, images = people_of(seed, people, 2)
    counted[:, 0] = True  # something always counts

    def metric(indices: NDArray[np.intp]) -> tuple[float, float]:
        total = counted[indices].sum()
        return 100 * reference[indices].sum() / total, 100 * artifact[indices].sum() / total

    fast = paired_bootstrap(reference, artifact, counted, images, resamples=15, seed=seed)
    slow = paired_bootstrap_of(metric, images, resamples=15, seed=seed)
    assert slow.per_joint == ()
    for a, b in ((fast.drop.low, slow.drop.low), (fast.drop.high, slow.drop.high), (fast.drop.value, slow.drop.value)):
        assert a == pytest.approx(b, abs=1e-9)


@given(seeds, st.integers(1, 30))
def test_equal_models_have_an_interval_of_no_width(seed: int, people: int) -> None:
    reference, _, counted, images = people_of(seed, people, 3)
    result = paired_bootstrap(reference, reference.copy(), counted, images, resamples=30)
    for interval in (result.drop, *result.per_joint):
        if not math.isnan(interval.value):
            assert (interval.value, interval.low, interval.high) == (0, 0, 0)
            assert 0 in interval
            assert interval.width == 0


@given(seeds, st.integers(2, 20), st.randoms())
def test_order_of_people_does_not_matter_within_images(seed: int, people: int, random: Any) -> None:
    tables = people_of(seed, people, 2)
    order = list(range(people))
    random.shuffle(order)
    one = paired_bootstrap(*tables, resamples=20)
    other = paired_bootstrap(*(table[order] for table in tables), resamples=20)
    assert one.drop.low == pytest.approx(other.drop.low, nan_ok=True)
    assert one.drop.high == pytest.approx(other.drop.high, nan_ok=True)


def test_draws_do_not_depend_on_the_memory_at_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    tables = people_of(0, 51, 3)
    whole = paired_bootstrap(*tables, resamples=101)
    monkeypatch.setattr(bootstrap, "_DRAWS", 70)
    assert paired_bootstrap(*tables, resamples=101) == whole
    assert paired_bootstrap(*tables, resamples=101, seed=1) != whole


def test_joints_that_do_not_score_are_left_out_of_the_metric() -> None:
    reference, artifact, counted, images = people_of(3, 40, 3)
    scored = np.array([True, False, True])
    result = paired_bootstrap(reference, artifact, counted, images, scored=scored)
    part = paired_bootstrap(reference[:, scored], artifact[:, scored], counted[:, scored], images)
    assert result.drop == part.drop
    assert [result.per_joint[0], result.per_joint[2]] == list(part.per_joint)
    assert len(result.per_joint) == 3


def test_one_number_a_person() -> None:
    reference, artifact, counted, images = people_of(4, 30, 5)
    flat = paired_bootstrap(reference.sum(1), artifact.sum(1), counted.sum(1), images)
    assert flat.per_joint == ()
    assert flat.drop == paired_bootstrap(reference, artifact, counted, images).drop


def test_standard_error_of_independent_people() -> None:
    """One joint a person, each in an image of its own: the interval is 1.96 standard errors of a mean each way."""
    rng = np.random.default_rng(0)
    reference, artifact = rng.random(2000) < 0.8, rng.random(2000) < 0.75
    result = paired_bootstrap(reference, artifact, np.ones(2000), np.arange(2000), resamples=4000)
    error = 100 * (reference.astype(float) - artifact).std() / math.sqrt(2000)
    assert result.drop.width == pytest.approx(2 * 1.96 * error, rel=0.05)
    assert result.drop.value in result.drop


def test_coverage_of_people_who_share_images() -> None:
    """95 % of the intervals contain the true drop; without regard to images they would contain it less often."""
    rng, runs, images, per_image = np.random.default_rng(0), 300, 120, 5
    truth, hits, naive = 4.0, 0, 0
    for run in range(runs):
        # All people of an image share how hard it is for the artifact: its rate there is 0.76 on average.
        rate = np.repeat(rng.choice([0.55, 0.97], images), per_image)
        reference, artifact = rng.random(rate.size) < 0.8, rng.random(rate.size) < rate
        clusters = np.repeat(np.arange(images), per_image)
        options: dict[str, Any] = {"resamples": 400, "seed": run}
        ones = np.ones(rate.size)
        hits += truth in paired_bootstrap(reference, artifact, ones, clusters, **options).drop
        naive += truth in paired_bootstrap(reference, artifact, ones, np.arange(rate.size), **options).drop
    assert 0.91 <= hits / runs <= 0.98  # three standard errors of 300 runs are 0.04
    assert naive < hits


def test_two_thousand_resamples_of_a_thousand_people() -> None:
    reference, artifact, counted, _ = people_of(0, 1000, 17)
    started = time.process_time()
    result = paired_bootstrap(reference, artifact, counted, np.arange(1000))
    assert time.process_time() - started < 1.0
    assert result.resamples == 2000


def test_images_by_name_and_a_report() -> None:
    result = paired_bootstrap([1, 0, 1], [1, 0, 0], [1, 1, 1], ["a.jpg", "b.jpg", "a.jpg"])
    assert isinstance(result, PairedDrop)
    assert result.images == 2
    assert result.to_dict()["drop"]["value"] == pytest.approx(100 / 3)
    assert math.isnan(Interval(math.nan, math.nan, math.nan).width)


def test_what_does_not_count_is_never_right() -> None:
    result = paired_bootstrap([[1, 1]], [[math.nan, 0]], [[0, 1]], [0])
    assert (result.reference, result.artifact) == (100, 0)
    assert math.isnan(result.per_joint[0].low)


@pytest.mark.parametrize(
    "options", [{"resamples": 0}, {"confidence": 0.0}, {"confidence": 1.0}, {"confidence": math.nan}]
)
def test_arguments_out_of_range(options: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="give 1 resample or more"):
        paired_bootstrap([1], [1], [1], [0], **options)
    with pytest.raises(UserError, match="give 1 resample or more"):
        paired_bootstrap_of(lambda _: (0, 0), [0], **options)


def test_nobody_and_shapes() -> None:
    with pytest.raises(UserError, match="no people"):
        paired_bootstrap(np.empty((0, 3)), np.empty((0, 3)), np.empty((0, 3)), [])
    with pytest.raises(ValueError, match="shapes"):
        paired_bootstrap([1, 1], [1, 1], [1, 1], [0])
