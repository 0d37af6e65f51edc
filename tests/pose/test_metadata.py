from __future__ import annotations

import json
import math
from typing import Any

import pytest

from bihrnet_edge.errors import UserError
from bihrnet_edge.pose.keypoints import COCO, KEYPOINT_SETS, LSP, KeypointSet
from bihrnet_edge.pose.metadata import PoseMetadata


@pytest.mark.parametrize("keypoints", KEYPOINT_SETS.values(), ids=lambda s: s.name)
def test_round_trip(keypoints: KeypointSet) -> None:
    metadata = PoseMetadata("m", 256, 192, keypoints)
    assert PoseMetadata.from_json(metadata.to_json()) == metadata


@pytest.mark.parametrize("keypoints", KEYPOINT_SETS.values(), ids=lambda s: s.name)
def test_flip_pairs_swap_sides_and_cover_every_sided_joint(keypoints: KeypointSet) -> None:
    paired = {i for pair in keypoints.flip_pairs for i in pair}
    assert paired == {i for i, n in enumerate(keypoints.keypoints) if n.startswith(("left_", "right_"))}
    for a, b in keypoints.flip_pairs:
        names = {keypoints.keypoints[a], keypoints.keypoints[b]}
        assert len({n.split("_", 1)[1] for n in names}) == 1


def test_skeleton_connects_every_joint() -> None:
    for keypoints in (COCO, LSP):
        assert {i for limb in keypoints.skeleton for i in limb} == set(range(len(keypoints)))


@pytest.mark.parametrize(
    "change",
    [
        {"format_version": 99}, {"input_height": 0}, {"input_width": "wide"}, {"mean": [0.5]}, {"std": [0, 1, 1]},
        {"keypoints": {}}, {"keypoints": {"name": "x", "keypoints": ["a", "a"], "skeleton": []}},
        {"keypoints": {"name": "x", "keypoints": ["a"], "skeleton": [[0, 1]]}}, {"channel_order": "BGR"},
        {"heatmap_stride": 0}, {"keypoints": {"name": "x", "keypoints": [], "skeleton": []}},
        {"input_height": math.inf}, {"heatmap_stride": math.inf}, {"format_version": math.inf},
        {"mean": [0.5, math.nan, 0.5]}, {"mean": [0.5, math.inf, 0.5]}, {"mean": [0.5, 10**400, 0.5]},
        {"std": [math.nan, 1, 1]}, {"std": [1, math.nan, 1]}, {"std": [1, 1, math.inf]},
        {"box_padding": math.nan}, {"box_padding": math.inf}, {"box_padding": 10**400},
        {"keypoints": {"name": "x", "keypoints": ["a"], "skeleton": [[0, math.inf]]}},
    ],
)  # fmt: skip
def test_malformed_metadata_is_one_sentence(change: dict[str, Any]) -> None:
    values = PoseMetadata("m", 256, 192, COCO).to_dict() | change
    with pytest.raises(UserError):
        PoseMetadata.from_json(json.dumps(values))


@pytest.mark.parametrize(
    "name",
    [
        "", "../up", "/etc/passwd", "a/b", "a\\b", ".hidden", "-option", " space", "..", "line\nbreak", "end\n", "ä",
        "nul\0", "x" * 101, "C:x",
    ],
)  # fmt: skip
def test_a_name_must_be_a_files_name(name: str) -> None:
    with pytest.raises(UserError, match="cannot be a file's name"):
        PoseMetadata(name, 256, 192, COCO)
    with pytest.raises(UserError, match="cannot be a file's name"):
        PoseMetadata.from_dict(PoseMetadata("m", 256, 192, COCO).to_dict() | {"name": name})


@pytest.mark.parametrize("name", ["m", "bihrnet-small-lsp", "My model_2.1+a", "0", "x" * 100])
def test_names_that_are_files_names(name: str) -> None:
    assert PoseMetadata(name, 256, 192, COCO).name == name


@pytest.mark.parametrize("text", ["", "[]", "{", "{}", "[" * 100_000])
def test_not_our_json(text: str) -> None:
    with pytest.raises(UserError):
        PoseMetadata.from_json(text)
