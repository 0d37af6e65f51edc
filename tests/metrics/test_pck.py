from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bihrnet_edge.data.person import Person
from bihrnet_edge.metrics.pck import metric_for, pck, torso_length
from bihrnet_edge.pose.keypoints import COCO, LSP, MPII, KeypointSet

PEOPLE, JOINTS = 4, 5
COORDINATES = st.floats(-500, 500, width=32)


@st.composite
def cases(draw: st.DrawFn) -> dict[str, Any]:
    points = hnp.arrays(np.float64, (PEOPLE, JOINTS, 2), elements=COORDINATES)
    return {
        "predictions": draw(points),
        "truth": draw(points),
        "visible": draw(hnp.arrays(bool, (PEOPLE, JOINTS))),
        "reference": draw(
            hnp.arrays(np.float64, PEOPLE, elements=st.one_of(st.floats(1, 300), st.just(math.nan), st.just(0.0)))
        ),
    }


def by_loops(case: dict[str, Any], threshold: float) -> tuple[list[tuple[int, int]], int]:
    """Right and labelled per joint, and skipped people, counted one by one."""
    counts = [[0, 0] for _ in range(JOINTS)]
    skipped = 0
    for person in range(PEOPLE):
        length = case["reference"][person]
        if not length > 0:
            skipped += 1
            continue
        for joint in range(JOINTS):
            if case["visible"][person, joint]:
                dx, dy = case["predictions"][person, joint] - case["truth"][person, joint]
                counts[joint][0] += math.hypot(dx, dy) <= threshold * length
                counts[joint][1] += 1
    return [(right, labelled) for right, labelled in counts], skipped


@given(cases(), st.floats(0.05, 2))
def test_equals_counting_one_by_one(case: dict[str, Any], threshold: float) -> None:
    result = pck(**case, threshold=threshold)
    counts, skipped = by_loops(case, threshold)
    labelled = sum(count for _, count in counts)
    assert (result.counted, result.skipped_people) == (labelled, skipped)
    expected = [100 * right / count if count else math.nan for right, count in counts]
    np.testing.assert_allclose(result.per_joint, expected)
    mean = 100 * sum(right for right, _ in counts) / labelled if labelled else math.nan
    np.testing.assert_allclose(result.mean, mean)


@given(cases())
def test_the_truth_scores_100(case: dict[str, Any]) -> None:
    result = pck(case["truth"], case["truth"], case["visible"], case["reference"], 0.2)
    assert result.mean == 100 or result.counted == 0


@given(cases(), st.floats(0.05, 1), st.floats(0, 1))
def test_grows_with_the_threshold(case: dict[str, Any], threshold: float, more: float) -> None:
    low, high = pck(**case, threshold=threshold), pck(**case, threshold=threshold + more)
    assert low.counted == high.counted
    assert low.counted == 0 or low.mean <= high.mean


@given(cases(), st.sampled_from([0.25, 0.5, 2.0, 8.0]), st.integers(-1000, 1000))
def test_scale_and_place_do_not_matter(case: dict[str, Any], scale: float, shift: int) -> None:
    case = {**case, "predictions": np.rint(case["predictions"]), "truth": np.rint(case["truth"])}  # exact arithmetic
    moved = {
        "predictions": (case["predictions"] + shift) * scale,
        "truth": (case["truth"] + shift) * scale,
        "visible": case["visible"],
        "reference": case["reference"] * scale,
    }
    before, after = pck(**case, threshold=0.5), pck(**moved, threshold=0.5)
    np.testing.assert_array_equal(before.per_joint, after.per_joint)


def test_a_missing_prediction_is_wrong() -> None:
    truth = np.zeros((1, 2, 2))
    predictions = np.array([[[np.nan, 0.0], [0.0, 0.0]]])
    result = pck(predictions, truth, np.ones((1, 2), bool), np.array([10.0]), 0.5)
    assert result.per_joint.tolist() == [0.0, 100.0]


def test_torso_is_right_shoulder_to_left_hip() -> None:
    points = np.zeros((3, len(LSP), 2))
    points[:, LSP.keypoints.index("right_shoulder")] = (3, 4)
    visible = np.ones((3, len(LSP)), bool)
    visible[1, LSP.keypoints.index("left_hip")] = False
    visible[2, LSP.keypoints.index("left_shoulder")] = False
    np.testing.assert_array_equal(torso_length(points, visible, LSP), [5, np.nan, 5])


def person(keypoint_set: KeypointSet, head_size: float | None = None) -> Person:
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 100, (len(keypoint_set), 2)).astype(np.float32)
    return Person(Path("a"), 1, 1, (0, 0, 40, 80), points, np.ones(len(keypoint_set), bool), head_size=head_size)


@pytest.mark.parametrize(
    ("keypoint_set", "name"),
    [(COCO, "PCK@0.2"), (LSP, "PCK@0.2"), (MPII, "PCKh@0.5"), (KeypointSet("hand", ("a", "b")), "PCK@0.05 of the box")],
)
def test_metric_is_named(keypoint_set: KeypointSet, name: str) -> None:
    metric = metric_for(keypoint_set)
    one = person(keypoint_set)
    assert metric.name == name
    assert metric(one.keypoints[None], [one]).mean == 100


def test_box_metric_uses_the_longer_side() -> None:
    metric = metric_for(KeypointSet("hand", ("a", "b")))
    one = person(metric.keypoints)
    moved = one.keypoints + np.array([[3.9, 0], [4.1, 0]])
    assert metric(moved[None], [one]).per_joint.tolist() == [100, 0]


def test_head_size_of_the_file_wins() -> None:
    metric = metric_for(MPII)
    people = [person(MPII), person(MPII, head_size=7.0)]
    neck, top = people[0].keypoints[8], people[0].keypoints[9]
    np.testing.assert_allclose(metric.lengths(people), [np.linalg.norm(neck - top), 7.0], rtol=1e-6)


def test_mpii_mean_leaves_pelvis_and_thorax_out() -> None:
    metric, one = metric_for(MPII), person(MPII)
    wrong = one.keypoints.copy()
    wrong[[6, 7]] += 1000
    result = metric(wrong[None], [one])
    assert (result.mean, result.counted) == (100, 14)
    assert result.per_joint[6] == 0


def test_nobody() -> None:
    result = metric_for(LSP)(np.empty((0, 14, 2)), [])
    assert math.isnan(result.mean)
    assert result.counted == 0


def test_a_shift_of_one_pixel() -> None:
    # A fifth of the torso is 0.98 px for one person and 1.02 px for the other.
    people = []
    for torso in (4.9, 5.1):
        points = np.zeros((len(LSP), 2), np.float32)
        points[LSP.keypoints.index("left_hip"), 1] = torso
        people.append(Person(Path("a"), 1, 1, (0, 0, 40, 80), points, np.ones(len(LSP), bool)))
    moved = np.stack([one.keypoints for one in people]) + np.array([1.0, 0.0])
    assert metric_for(LSP)(moved, people).per_joint.tolist() == [50.0] * len(LSP)


def test_some_of_the_joints() -> None:
    """A metric of predictions that lack a joint: the length is still the truth's, the figures the others' own."""
    rng = np.random.default_rng(0)
    people = []
    for i in range(6):
        points = rng.uniform(0, 100, (len(LSP), 2)).astype(np.float32)
        people.append(Person(Path("x.png"), i, i, (0, 0, 100, 100), points, rng.random(len(LSP)) < 0.8))
    everything = np.stack([p.keypoints for p in people]) + rng.normal(0, 15, (6, len(LSP), 2))
    metric = metric_for(LSP)
    joints = np.array([5, 0, 13])
    part, whole = metric(everything[:, joints], people, joints), metric(everything, people)
    np.testing.assert_array_equal(part.per_joint, whole.per_joint[joints])
    assert part.skipped_people == whole.skipped_people
    correct, counted = metric.correct(everything[:, joints], people, joints)
    assert 100 * correct.sum() / counted.sum() == pytest.approx(part.mean)
    assert counted.sum() == part.counted
    full, _ = metric.correct(everything, people)
    np.testing.assert_array_equal(full[:, joints], correct)
    assert list(metric_for(MPII).scored(np.array([6, 0]))) == [False, True]  # the pelvis is left out
