"""Keypoint sets: joint names in model order, the skeleton drawn between them, left/right pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bihrnet_edge.errors import UserError


def flip_pairs_of(names: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """Index pairs that swap under a horizontal flip, read off ``left_x``/``right_x`` names."""
    index = {name: i for i, name in enumerate(names)}
    pairs = []
    for name, i in index.items():
        if name.startswith("left_") and (other := index.get("right_" + name[5:])) is not None:
            pairs.append((min(i, other), max(i, other)))
    return tuple(sorted(pairs))


@dataclass(frozen=True)
class KeypointSet:
    """Names of the ``K`` joints a model predicts, in the order of its heatmaps.

    Attributes:
        name: short name, e.g. ``coco``.
        keypoints: ``K`` distinct joint names.
        skeleton: pairs of 0-based joint indices that are drawn as limbs.
    """

    name: str
    keypoints: tuple[str, ...]
    skeleton: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        if not self.keypoints:
            raise UserError(f"keypoint set {self.name!r} names no joints; list at least one.")
        if len(set(self.keypoints)) != len(self.keypoints):
            twice = next(k for k in self.keypoints if self.keypoints.count(k) > 1)
            raise UserError(f"keypoint set {self.name!r} names the joint {twice!r} twice; names must be distinct.")
        for a, b in self.skeleton:
            if not (0 <= a < len(self) and 0 <= b < len(self)):
                raise UserError(f"keypoint set {self.name!r}: limb ({a}, {b}) leaves the {len(self)} joints.")

    def __len__(self) -> int:
        return len(self.keypoints)

    @property
    def flip_pairs(self) -> tuple[tuple[int, int], ...]:
        return flip_pairs_of(self.keypoints)

    def index(self, name: str) -> int | None:
        """Index of a joint by name, or None where this set does not have it."""
        return self.keypoints.index(name) if name in self.keypoints else None

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "keypoints": list(self.keypoints),
            "skeleton": [list(limb) for limb in self.skeleton],
            "flip_pairs": [list(pair) for pair in self.flip_pairs],
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> KeypointSet:
        try:
            return cls(
                name=str(values["name"]),
                keypoints=tuple(str(k) for k in values["keypoints"]),
                skeleton=tuple((int(a), int(b)) for a, b in values["skeleton"]),
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise UserError(f"keypoint set is malformed ({error}); it needs name, keypoints and skeleton.") from error


def _limbs(one_based: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    return tuple((a - 1, b - 1) for a, b in one_based)


#: Order and skeleton as in COCO's person_keypoints annotations.
COCO = KeypointSet(
    "coco",
    (
        "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow",
        "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle",
        "right_ankle",
    ),
    _limbs([
        (16, 14), (14, 12), (17, 15), (15, 13), (12, 13), (6, 12), (7, 13), (6, 7), (6, 8), (7, 9), (8, 10), (9, 11),
        (2, 3), (1, 2), (1, 3), (2, 4), (3, 5), (4, 6), (5, 7),
    ]),
)  # fmt: skip

#: Order as in the MPII release and in the JSON form of HRNet's tools.
MPII = KeypointSet(
    "mpii",
    (
        "right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle", "pelvis", "thorax",
        "upper_neck", "head_top", "right_wrist", "right_elbow", "right_shoulder", "left_shoulder", "left_elbow",
        "left_wrist",
    ),
    _limbs([
        (1, 2), (2, 3), (3, 7), (4, 7), (4, 5), (5, 6), (7, 8), (8, 9), (9, 10), (8, 13), (8, 14), (11, 12), (12, 13),
        (14, 15), (15, 16),
    ]),
)  # fmt: skip

#: Order as in Leeds Sports Pose (Johnson & Everingham 2010).
LSP = KeypointSet(
    "lsp",
    (
        "right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle", "right_wrist", "right_elbow",
        "right_shoulder", "left_shoulder", "left_elbow", "left_wrist", "neck", "head_top",
    ),
    _limbs([
        (1, 2), (2, 3), (3, 9), (4, 10), (4, 5), (5, 6), (7, 8), (8, 9), (9, 13), (10, 13), (10, 11), (11, 12),
        (13, 14), (3, 4),
    ]),
)  # fmt: skip

KEYPOINT_SETS: dict[str, KeypointSet] = {s.name: s for s in (COCO, MPII, LSP)}
