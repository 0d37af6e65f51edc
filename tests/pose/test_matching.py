from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bihrnet_edge.errors import UserError
from bihrnet_edge.pose.keypoints import COCO, KEYPOINT_SETS, LSP, MPII, KeypointSet
from bihrnet_edge.pose.matching import common_joints

LIMB_JOINTS = {
    f"{side}_{name}" for side in ("left", "right") for name in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
}
names = st.lists(st.sampled_from("abcdefgh"), min_size=1, unique=True).map(tuple)


@pytest.mark.parametrize(
    ("model", "dataset", "expected"),
    [
        (LSP, COCO, LIMB_JOINTS),
        (MPII, COCO, LIMB_JOINTS),
        (LSP, MPII, LIMB_JOINTS | {"head_top"}),  # not LSP's neck, which is no joint of MPII's
        (LSP, LSP, set(LSP.keypoints)),
    ],
)
def test_known_sets(model: KeypointSet, dataset: KeypointSet, expected: set[str]) -> None:
    common = common_joints(model, dataset)
    assert set(common.names) == expected
    assert len(common) == len(expected)
    assert common.all_of_both == (model is dataset)


@given(names, names)
def test_indices_lead_to_the_names(model_names: tuple[str, ...], dataset_names: tuple[str, ...]) -> None:
    model, dataset = KeypointSet("m", model_names), KeypointSet("d", dataset_names)
    if not set(model_names) & set(dataset_names):
        with pytest.raises(UserError, match=r"\(m: .*\(d: .*no name in common"):
            common_joints(model, dataset)
        return
    common = common_joints(model, dataset)
    assert [model_names[i] for i in common.model_index] == list(common.names)
    assert [dataset_names[i] for i in common.dataset_index] == list(common.names)
    assert set(common.names) == set(model_names) & set(dataset_names)
    assert sorted(common.dataset_index) == list(common.dataset_index)
    assert set(common.model_only) == set(model_names) - set(dataset_names)
    assert set(common.dataset_only) == set(dataset_names) - set(model_names)


@pytest.mark.parametrize("model", KEYPOINT_SETS.values(), ids=str)
@pytest.mark.parametrize("dataset", KEYPOINT_SETS.values(), ids=str)
def test_common_set_keeps_the_limbs_between_its_joints(model: KeypointSet, dataset: KeypointSet) -> None:
    common = common_joints(model, dataset)
    part = common.keypoint_set(dataset)
    assert part.keypoints == common.names
    kept = {(part.keypoints[a], part.keypoints[b]) for a, b in part.skeleton}
    every = {(dataset.keypoints[a], dataset.keypoints[b]) for a, b in dataset.skeleton}
    assert kept == {(a, b) for a, b in every if a in common.names and b in common.names}
    assert len(part.flip_pairs) >= 6


def test_arrays_are_taken_by_index() -> None:
    model, dataset = KeypointSet("m", ("a", "b", "c")), KeypointSet("d", ("c", "x", "a"))
    common = common_joints(model, dataset)
    predicted, labelled = np.arange(3) * 10, np.array([20, -1, 0])
    assert np.array_equal(predicted[common.model_index], labelled[common.dataset_index])
