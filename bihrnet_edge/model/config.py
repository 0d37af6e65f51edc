"""What a network looks like: a small, validated, JSON-serialisable description. Imports no torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from bihrnet_edge.errors import UserError

BlockName = Literal["basic", "ms"]
BottleneckName = Literal["plain", "ir"]

STEM_CHANNELS = 64
BOTTLENECK_CHANNELS = 64
BOTTLENECK_EXPANSION = 4
HEATMAP_STRIDE = 4
#: Integers of magnitude up to this are what an integer stem passes on.
STEM_LIMIT = 127.0
#: The stem divides by 4 and stage 4 by 8 more, so input sides are multiples of 32 pixels.
INPUT_MULTIPLE = 32
_MAX_WIDTH = 256
_MAX_REPEATS = 16
_MAX_KEYPOINTS = 512


@dataclass(frozen=True)
class ModelConfig:
    """Architecture of a BiHRNet (``binary=True``) or of its real-valued twin (``binary=False``).

    Attributes:
        width: channels of the highest-resolution branch; branch ``i`` has ``width * 2**i``.
        modules: number of high-resolution modules in stages 2, 3 and 4.
        blocks: blocks per branch and module.
        bottlenecks: bottlenecks in stage 1.
        keypoints: output heatmaps.
        block: ``ms`` (two dilations side by side, then 3x3) or ``basic`` (3x3, 3x3).
        bottleneck: ``ir`` (a real-valued shortcut beside every convolution) or ``plain``
            (one shortcut around the whole bottleneck).
        binary: 1-bit weights and activations between stem and head.
        integer_stem: activations of the first stem convolution are rounded to integers within
            :data:`STEM_LIMIT` (:mod:`bihrnet_edge.model.exact`).
    """

    width: int = 32
    modules: tuple[int, int, int] = (1, 4, 3)
    blocks: int = 4
    bottlenecks: int = 4
    keypoints: int = 17
    block: BlockName = "ms"
    bottleneck: BottleneckName = "ir"
    binary: bool = True
    integer_stem: bool = False

    def __post_init__(self) -> None:
        def check_int(name: str, value: object, low: int, high: int) -> None:
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                raise UserError(f"model config: {name} is {value!r}; give an integer from {low} to {high}.")

        check_int("width", self.width, 2, _MAX_WIDTH)
        if self.width % 2:
            raise UserError(f"model config: width is {self.width}; the MS-Block splits it in two, give an even number.")
        if len(self.modules) != 3:
            raise UserError(
                f"model config: modules is {self.modules!r}; give three numbers, one for each of stages 2-4."
            )
        for stage, count in enumerate(self.modules, start=2):
            check_int(f"modules of stage {stage}", count, 1, _MAX_REPEATS)
        check_int("blocks", self.blocks, 1, _MAX_REPEATS)
        check_int("bottlenecks", self.bottlenecks, 1, _MAX_REPEATS)
        check_int("keypoints", self.keypoints, 1, _MAX_KEYPOINTS)
        for name, value, choices in (
            ("block", self.block, get_args(BlockName)),
            ("bottleneck", self.bottleneck, get_args(BottleneckName)),
        ):
            if value not in choices:
                raise UserError(f"model config: {name} is {value!r}; choose one of {', '.join(choices)}.")
        for name, flag in (("binary", self.binary), ("integer_stem", self.integer_stem)):
            if not isinstance(flag, bool):
                raise UserError(f"model config: {name} is {flag!r}; give true or false.")

    def branch_channels(self, branch: int) -> int:
        return self.width << branch

    def twin(self) -> ModelConfig:
        """The same topology with ordinary convolutions."""
        return dataclasses.replace(self, binary=False, integer_stem=False)

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self) | {"modules": list(self.modules)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ModelConfig:
        """Inverse of :meth:`to_dict`; an unknown or missing key is an error that names it."""
        known = {field.name for field in dataclasses.fields(cls)}
        # integer_stem came after the first checkpoints; a file without it has none.
        unknown, missing = sorted(set(values) - known, key=str), sorted(known - set(values) - {"integer_stem"})
        if unknown:
            raise UserError(f"model config: unknown key {unknown[0]!r}; known keys are {', '.join(sorted(known))}.")
        if missing:
            raise UserError(f"model config: key {missing[0]!r} is missing; the file was not written by bihrnet-edge.")
        modules = values["modules"]
        if not isinstance(modules, (list, tuple)):
            raise UserError(f"model config: modules is {modules!r}; give three numbers.")
        return cls(**(dict(values) | {"modules": tuple(modules)}))


_W32 = ModelConfig()
_SMALL = ModelConfig(modules=(1, 1, 1), blocks=2, bottlenecks=2)
PRESETS: dict[str, ModelConfig] = {
    "bihrnet-small": _SMALL,
    "bihrnet-w32": _W32,
    "bihrnet-w48": dataclasses.replace(_W32, width=48),
    "hrnet-small": _SMALL.twin(),
    "hrnet-w32": _W32.twin(),
    "hrnet-w48": dataclasses.replace(_W32, width=48).twin(),
}


def preset(name: str, *, keypoints: int = 17) -> ModelConfig:
    """The named preset with ``keypoints`` heatmaps."""
    if name not in PRESETS:
        raise UserError(f"there is no preset {name!r}; choose one of {', '.join(sorted(PRESETS))}.")
    return dataclasses.replace(PRESETS[name], keypoints=keypoints)
