"""PCKh against a loop over MPII's protocol."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bihrnet_edge.data.mpii import HEAD_SCALE
from bihrnet_edge.metrics.pckh import GROUPS, PckhResult, pckh
from bihrnet_edge.pose.keypoints import LSP, MPII

#: The protocol's own joint numbers: which the table's columns average, and which the mean leaves out.
COLUMNS = {
    "Head": [9], "Shoulder": [12, 13], "Elbow": [11, 14], "Wrist": [10, 15], "Hip": [2, 3], "Knee": [1, 4],
    "Ankle": [0, 5],
}  # fmt: skip
UNSCORED = [6, 7]


def case(seed: int, people: int = 30) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    truth = rng.uniform(0, 500, (people, 16, 2))
    head_boxes = rng.uniform(10, 60, (people, 2))
    visible = rng.random((people, 16)) < 0.8
    visible[0] = True  # each joint at least once, as in the published sets
    return {
        "predictions": truth + rng.normal(0, 12, truth.shape),
        "truth": truth,
        "visible": visible,
        "head_sizes": HEAD_SCALE * np.linalg.norm(head_boxes, axis=1),
    }


def by_loops(data: dict[str, Any], threshold: float) -> dict[str, float]:
    """Columns of MPII's table, in per cent."""
    right, labelled = [0] * 16, [0] * 16
    for person in range(len(data["truth"])):
        for joint in range(16):
            if data["visible"][person][joint]:
                dx, dy = data["predictions"][person][joint] - data["truth"][person][joint]
                labelled[joint] += 1
                right[joint] += math.sqrt(dx * dx + dy * dy) / data["head_sizes"][person] <= threshold
    rate = [100 * right[joint] / labelled[joint] for joint in range(16)]
    table = {name: sum(rate[joint] for joint in joints) / len(joints) for name, joints in COLUMNS.items()}
    scored = [joint for joint in range(16) if joint not in UNSCORED]
    total = sum(labelled[joint] for joint in scored)
    table["Mean"] = sum(rate[joint] * labelled[joint] / total for joint in scored)
    return table


def table(result: PckhResult) -> dict[str, float]:
    return {**result.groups, "Mean": result.mean}


@given(st.integers(0, 2**32), st.sampled_from([0.1, 0.5, 1.0]))
def test_equals_the_protocol_one_by_one(seed: int, threshold: float) -> None:
    data = case(seed)
    result = pckh(**data, threshold=threshold)
    assert table(result) == pytest.approx(by_loops(data, threshold), abs=1e-4)
    assert list(result.groups) == list(COLUMNS)


@given(st.integers(0, 2**32), st.sampled_from([0.1, 0.5]))
def test_the_truth_scores_100(seed: int, threshold: float) -> None:
    data = case(seed)
    result = pckh(data["truth"], data["truth"], data["visible"], data["head_sizes"], threshold)
    assert table(result) == dict.fromkeys([*COLUMNS, "Mean"], 100.0)


def test_a_shift_of_one_pixel() -> None:
    # A tenth of a head is 0.5 px for one person of four and 1 px or more for three: 75 % stay right.
    truth = np.random.default_rng(0).integers(0, 100, (4, 16, 2)).astype(np.float64)
    visible, heads = np.ones((4, 16), bool), np.array([5.0, 10.0, 20.0, 40.0])
    moved = truth + np.array([1.0, 0.0])
    assert table(pckh(moved, truth, visible, heads, 0.1)) == dict.fromkeys([*COLUMNS, "Mean"], 75.0)
    assert pckh(moved, truth, visible, heads, 0.5).mean == 100


def test_upper_neck_is_in_the_mean_only() -> None:
    data = case(0, people=1)
    wrong = data["truth"].copy()
    wrong[:, MPII.keypoints.index("upper_neck")] += 1000
    result = pckh(wrong, data["truth"], np.ones((1, 16), bool), data["head_sizes"])
    assert set(result.groups.values()) == {100.0}
    assert result.mean == pytest.approx(100 * 13 / 14)
    assert (result.per_joint["upper_neck"], result.counted) == (0, 14)


def test_one_side_unlabelled() -> None:
    data = case(0, people=1)
    visible = np.ones((1, 16), bool)
    visible[:, [MPII.keypoints.index(name) for name in ("left_knee", "left_hip", "right_hip")]] = False
    result = pckh(data["truth"], data["truth"], visible, data["head_sizes"])
    assert result.groups["Knee"] == 100
    assert math.isnan(result.groups["Hip"])
    assert json.loads(json.dumps(result.to_dict()))["groups"]["Hip"] is None


def test_people_without_a_head_size_are_counted() -> None:
    data = case(0, people=3)
    data["head_sizes"][:] = [20.0, np.nan, 0.0]
    result = pckh(**data)
    assert (result.skipped_people, result.counted) == (2, data["visible"][0].sum() - 2)


def test_joints_of_another_set() -> None:
    points = np.random.default_rng(0).uniform(0, 100, (2, len(LSP), 2))
    result = pckh(points, points, np.ones((2, len(LSP)), bool), np.full(2, 20.0), 0.1, LSP)
    assert result.name == "PCKh@0.1"
    assert result.groups == dict.fromkeys(GROUPS, 100.0)
    assert result.counted == 2 * len(LSP)
