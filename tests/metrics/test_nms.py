"""Rescoring and OKS-NMS against loops over the same protocol."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bihrnet_edge.data.dataset import load_annotations
from bihrnet_edge.data.results import KeypointResults, read_results, write_results
from bihrnet_edge.metrics.nms import oks_nms, oks_nms_by_image, rescore
from bihrnet_edge.metrics.oks import COCO_SIGMAS, evaluate_oks

JOINTS = len(COCO_SIGMAS)


def poses(seed: int, count: int) -> dict[str, Any]:
    """A few people, each found several times with a jitter that straddles the threshold."""
    rng = np.random.default_rng(seed)
    centres = rng.uniform(0, 400, (3, JOINTS, 2))
    chosen = rng.integers(0, 3, count)
    return {
        "keypoints": centres[chosen] + rng.normal(0, 4, (count, JOINTS, 2)) * rng.integers(0, 3, (count, 1, 1)),
        "scores": rng.choice([0.1, 0.5, 0.9, 0.95], count),
        "areas": rng.uniform(2_000, 40_000, count),
    }


def nms_by_loops(case: dict[str, Any], threshold: float) -> list[int]:
    kept: list[int] = []
    for pose in sorted(range(len(case["scores"])), key=lambda i: -case["scores"][i]):
        for better in kept:
            area = (case["areas"][pose] + case["areas"][better]) / 2
            total = 0.0
            for joint in range(JOINTS):
                dx, dy = case["keypoints"][pose][joint] - case["keypoints"][better][joint]
                if not math.isnan(dx + dy):
                    total += math.exp(-(dx * dx + dy * dy) / (2 * (2 * COCO_SIGMAS[joint]) ** 2 * area))
            if total / JOINTS > threshold:
                break
        else:
            kept.append(pose)
    return kept


@given(st.integers(0, 2**32), st.integers(0, 12), st.floats(0.3, 0.99))
def test_nms_equals_the_loop(seed: int, count: int, threshold: float) -> None:
    case = poses(seed, count)
    assert oks_nms(**case, threshold=threshold).tolist() == nms_by_loops(case, threshold)


@given(st.integers(0, 2**32), st.integers(1, 12))
def test_images_do_not_meet(seed: int, count: int) -> None:
    case, rng = poses(seed, count), np.random.default_rng(seed)
    image_ids = rng.integers(1, 4, count)
    expected = []
    for image in set(image_ids.tolist()):
        rows = np.flatnonzero(image_ids == image)
        expected += rows[nms_by_loops({key: value[rows] for key, value in case.items()}, 0.9)].tolist()
    assert oks_nms_by_image(image_ids, **case).tolist() == sorted(expected)


@given(st.integers(0, 2**32), st.integers(1, 12), st.floats(0.3, 0.99))
def test_what_stays_is_apart_and_the_best_stays(seed: int, count: int, threshold: float) -> None:
    case = poses(seed, count)
    kept = oks_nms(**case, threshold=threshold)
    again = oks_nms(*(case[key][kept] for key in ("keypoints", "scores", "areas")), threshold=threshold)
    assert again.tolist() == list(range(len(kept)))
    assert case["scores"][kept[0]] == case["scores"].max()


def test_of_twins_one_stays() -> None:
    keypoints = np.repeat(np.random.default_rng(0).uniform(0, 99, (1, JOINTS, 2)), 3, axis=0)
    assert oks_nms(keypoints, np.array([0.3, 0.9, 0.9]), np.full(3, 900.0)).tolist() == [1]


def test_missing_joints_resemble_none() -> None:
    keypoints = np.full((2, JOINTS, 2), np.nan)
    assert oks_nms(keypoints, np.array([0.3, 0.9]), np.full(2, 900.0)).tolist() == [1, 0]


def test_nobody() -> None:
    nothing = np.empty(0)
    assert oks_nms(np.empty((0, JOINTS, 2)), nothing, nothing).tolist() == []
    assert oks_nms_by_image(np.empty(0, np.int64), np.empty((0, JOINTS, 2)), nothing, nothing).tolist() == []


@given(
    hnp.arrays(np.float32, (4, JOINTS), elements=st.floats(-0.5, 1.5, width=32)),
    hnp.arrays(np.float64, 4, elements=st.floats(0, 1)),
    st.floats(0, 1),
)
def test_rescoring_equals_the_loop(joints: np.ndarray, boxes: np.ndarray, threshold: float) -> None:
    expected = []
    for row, box in zip(joints.tolist(), boxes.tolist(), strict=True):
        sure = [score for score in row if score > threshold]
        expected.append(box * sum(sure) / len(sure) if sure else 0.0)
    assert rescore(boxes, joints, threshold).tolist() == pytest.approx(expected)


def test_the_published_threshold() -> None:
    assert rescore(np.array([0.5]), np.array([[0.2, 0.4, 0.8]])).tolist() == pytest.approx([0.3])


def test_from_detections_to_coco_figures(shared_data: Path, tmp_path: Path) -> None:
    """The whole chain on real annotations: every person found twice, the worse find suppressed, through the file."""
    folder = shared_data / "coco_mini"
    dataset = load_annotations(folder / "annotations" / "person_keypoints_val2017.json", folder / "val2017")
    truth, rng = dataset.truth, np.random.default_rng(0)
    assert truth is not None
    people = np.flatnonzero(~truth.ignored)
    twice = np.repeat(people, 2)
    joints = truth.keypoints[twice].copy()
    # Who is not labelled everywhere has joints at (0, 0), in both finds: the same pose all the same.
    joints[..., 2] = 0.5
    joints[1::2, :, :2] += rng.normal(0, 0.005, (len(people), JOINTS, 2)) * np.sqrt(truth.areas[people])[:, None, None]
    scores = rescore(np.where(np.arange(len(twice)) % 2, 0.6, 0.9), joints[..., 2])
    kept = oks_nms_by_image(truth.image_ids[twice], joints[..., :2], scores, truth.areas[twice])
    assert kept.tolist() == list(range(0, len(twice), 2))
    write_results(tmp_path / "results.json", KeypointResults(truth.image_ids[twice], joints, scores).take(kept))
    results, skipped = read_results(tmp_path / "results.json", JOINTS)
    assert not skipped.counts
    assert evaluate_oks(truth, results).ap == pytest.approx(100)
