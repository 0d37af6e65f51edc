from __future__ import annotations

import numpy as np
import pytest

from bihrnet_edge.calibration.agreement import Agreement
from bihrnet_edge.pose.heatmaps import encode


def _peaks(points: list[tuple[float, float]]) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return encode(np.array([points]), 16, 12, sigma=1.0)


def test_equal_heatmaps_agree_fully() -> None:
    heatmaps = _peaks([(3, 4), (8.2, 9.9)])
    agreement = Agreement(stride=4)
    agreement.add(heatmaps, heatmaps.copy())
    assert agreement.max_abs_diff == 0
    assert agreement.correlations == pytest.approx([1.0], abs=1e-12)
    assert agreement.keypoints_within == 1.0


def test_correlation_is_pearsons_per_image() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 3, 2, 5, 4)).astype(np.float32)
    agreement = Agreement(stride=4)
    agreement.add(a, b)
    expected = [np.corrcoef(x.ravel(), y.ravel())[0, 1] for x, y in zip(a, b, strict=True)]
    assert agreement.correlations == pytest.approx(expected, abs=1e-9)
    assert agreement.max_abs_diff == pytest.approx(np.abs(a - b).max())


def test_a_joint_that_moved_a_pixel_does_not_agree() -> None:
    agreement = Agreement(stride=4)
    agreement.add(_peaks([(3, 4), (8, 9)]), _peaks([(3, 4), (9, 9)]))
    assert agreement.keypoints_within == 0.5
    agreement.add(_peaks([(3, 4), (8, 9)]), _peaks([(3, 4), (8, 9)]))
    assert agreement.keypoints_within == 0.75
    assert agreement.to_dict()["images"] == 2


def test_constant_heatmaps_correlate_only_with_equal_ones() -> None:
    flat = np.zeros((1, 1, 4, 4), np.float32)
    agreement = Agreement(stride=4)
    agreement.add(flat, flat)
    agreement.add(flat, flat + 1)
    assert agreement.correlations == [1.0, 0.0]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("first", [True, False])
def test_a_heatmap_that_is_not_finite_shows(value: float, first: bool) -> None:
    sound = _peaks([(3, 4)])
    broken = sound.copy()
    broken[0, 0, 2, 2] = value
    agreement = Agreement(stride=4)
    with np.errstate(invalid="ignore"):
        for other in (broken, sound) if first else (sound, broken):
            agreement.add(sound, other)
    assert not np.isfinite(agreement.max_abs_diff)
    assert np.isnan(agreement.to_dict()["heatmap_correlation_min"])
    assert np.isnan(agreement.median_correlation)
