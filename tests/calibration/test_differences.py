from __future__ import annotations

import json
import math
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bihrnet_edge.calibration.differences import Spread, keypoint_differences


@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 4))
def test_equals_loops(seed: int, people: int, joints: int) -> None:
    rng = np.random.default_rng(seed)
    one = rng.uniform(0, 100, (people, joints, 2))
    other = one + rng.choice([0, 0.1, 1, 5], (people, joints, 1)) * rng.standard_normal((people, joints, 2))
    lengths, pixels = rng.choice([np.nan, 0.0, 10, 30], people), rng.uniform(0.5, 3, people)
    compared = rng.random((people, joints)) < 0.8
    result = keypoint_differences(one, other, lengths, pixels, compared)

    every, normalised, near = [], [], 0
    for p in range(people):
        for k in range(joints):
            if compared[p, k]:
                distance = math.dist(one[p, k], other[p, k])
                every.append(distance)
                near += distance <= 0.251 * pixels[p]
                if lengths[p] > 0:
                    normalised.append(distance / lengths[p])
                assert result.distances[p, k] == pytest.approx(distance)
            else:
                assert np.isnan(result.distances[p, k])
    assert result.compared == len(every)
    assert result.not_finite == 0
    for spread, values in ((result.pixels, every), (result.normalised, normalised)):
        if values:
            expected = [statistics.fmean(values), statistics.median(values), max(values)]
            assert [spread.mean, spread.p50, spread.max] == pytest.approx(expected)
            assert spread.p50 <= spread.p95 <= spread.max
        else:
            assert math.isnan(spread.mean)
    if every:
        assert result.within_quarter == pytest.approx(near / len(every))
    else:
        assert math.isnan(result.within_quarter)


def test_ninety_fifth_percentile() -> None:
    assert Spread.of(np.arange(101.0)) == Spread(50.0, 50.0, 95.0, 100.0)


def test_a_decoding_step_of_a_quarter_is_within_a_quarter() -> None:
    """Also after float32 has rounded the coordinates of a large image."""
    pixel = 1.7
    one = np.full((1, 2, 2), 3000.3, np.float32)
    other = one.copy()
    other[0, 0, 0] += np.float32(0.25 * pixel)
    other[0, 1, 0] += np.float32(0.26 * pixel)
    assert keypoint_differences(one, other, [np.nan], [pixel]).within_quarter == 0.5


@pytest.mark.filterwarnings("error")
def test_keypoints_that_are_not_finite_are_counted() -> None:
    one = np.zeros((1, 4, 2))
    other = np.zeros((1, 4, 2))
    one[0, 0], other[0, 1], one[0, 2], other[0, 2] = np.nan, np.inf, np.inf, np.inf
    result = keypoint_differences(one, other, [1.0], [1.0])
    assert (result.compared, result.not_finite, result.within_quarter) == (4, 3, 0.25)
    assert result.pixels == Spread(0, 0, 0, 0)
    assert len(result.per_joint) == 4
    assert math.isnan(result.per_joint[0].mean)
    assert json.loads(json.dumps(result.to_dict()))["compared"] == 4


def test_nobody() -> None:
    result = keypoint_differences(np.empty((0, 3, 2)), np.empty((0, 3, 2)), [], [])
    assert result.compared == 0
    assert math.isnan(result.within_quarter)
    assert math.isnan(result.pixels.max)
