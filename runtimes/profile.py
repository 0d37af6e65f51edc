"""Where the time of an inference goes, as the native delegate measured it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from bihrnet_edge.errors import UserError

_VERSION = 2
_US_PER_MS = 1000.0
#: What people read, and the kinds of steps that belong there. Of a ``bconv`` step this is what LceBconv2d is not.
_GROUPS = {
    "PReLU, addition, sign": ("bconv", "pointwise"),
    "float convolutions": ("conv",),
    "pooling, resizing": ("pool", "resize"),
    "layout": ("load", "store", "regrid"),
}
KERNELS = "binary convolution kernels"
SCALES = "their scale and bias"
BETWEEN = "between the delegate's steps"
OUTSIDE = "LiteRT's own operators"


@dataclass(frozen=True)
class Step:
    """One pass over memory, or several alike.

    Attributes:
        name: what it computes, e.g. ``bconv 3x3, 64>32 + prelu + add + sign``.
        kind: ``bconv``, ``conv``, ``load``, ``store``, ``pool``, ``resize``, ``pointwise`` or ``regrid``.
        channels, height, width: of the result.
        macs: multiply-accumulates.
        ms: mean of an inference.
        bconv_ms: the part of it in the binary convolution's own kernel.
        scale_ms: the part of it in LceBconv2d's scale and bias. They are one pass with what is fused behind them;
            this is what they take when done alone, from counts to rows in a first cache.
        count: how many such steps an inference has.
    """

    name: str
    kind: str
    channels: int
    height: int
    width: int
    macs: int
    ms: float
    bconv_ms: float
    scale_ms: float
    count: int = 1

    @property
    def gmacs(self) -> float:
        """Billions of multiply-accumulates a second, everything that is fused with them included."""
        return self.macs / self.ms / 1e6 if self.ms else 0.0


@dataclass(frozen=True)
class Profile:
    """Means over all inferences of one interpreter, in milliseconds; an inference is of one batch.

    Attributes:
        kernel, threads: of the delegate. With several threads a step's time is that of the thread that calls.
        nodes: operators that the delegate took.
        arena_bytes, weight_bytes: memory of the delegate.
        run_ms: the whole inference, what LiteRT itself runs included.
        delegate_ms: the delegate's part.
        steps: in the order in which they run.
    """

    kernel: str
    threads: int
    nodes: int
    arena_bytes: int
    weight_bytes: int
    run_ms: float
    delegate_ms: float
    steps: tuple[Step, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-serialisable."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Profile:
        """Inverse of :meth:`to_dict`."""
        return cls(**values | {"steps": tuple(Step(**step) for step in values["steps"])})

    def groups(self) -> dict[str, float]:
        """Milliseconds of each part of an inference, the largest first; they add up to ``run_ms``."""
        parts = {
            KERNELS: sum(step.bconv_ms for step in self.steps),
            SCALES: sum(step.scale_ms for step in self.steps),
            "others of the delegate": 0.0,
        } | dict.fromkeys(_GROUPS, 0.0)
        for step in self.steps:
            name = next((name for name, kinds in _GROUPS.items() if step.kind in kinds), "others of the delegate")
            parts[name] += step.ms - step.bconv_ms - step.scale_ms
        parts[BETWEEN] = self.delegate_ms - sum(step.ms for step in self.steps)
        parts[OUTSIDE] = self.run_ms - self.delegate_ms
        return {name: ms for name, ms in sorted(parts.items(), key=lambda item: -item[1]) if ms}

    @property
    def outside_kernels(self) -> float:
        """Share of an inference that is not spent in binary convolutions' kernels, 0 to 1."""
        return 1 - sum(step.bconv_ms for step in self.steps) / self.run_ms

    @property
    def outside_convolutions(self) -> float:
        """Share of an inference that is no part of an LceBconv2d (kernel, scale, bias), 0 to 1."""
        return self.outside_kernels - sum(step.scale_ms for step in self.steps) / self.run_ms

    def by_step(self) -> list[Step]:
        """Steps of one name and size as one, the most expensive first."""
        return sorted(_merged(self.steps), key=lambda step: -step.ms)


def _merged(steps: Iterable[Step]) -> Iterable[Step]:
    found: dict[tuple[object, ...], Step] = {}
    for step in steps:
        key = (step.name, step.kind, step.channels, step.height, step.width)
        if (other := found.get(key)) is not None:
            step = replace(
                step,
                macs=other.macs + step.macs,
                ms=other.ms + step.ms,
                bconv_ms=other.bconv_ms + step.bconv_ms,
                scale_ms=other.scale_ms + step.scale_ms,
                count=other.count + step.count,
            )
        found[key] = step
    return found.values()


def read_profile(path: Path, run_ms: float) -> Profile:
    """The file that the delegate wrote when its interpreter went.

    Args:
        path: what the delegate was given as ``profile``.
        run_ms: mean of the same inferences, measured from outside.

    Raises:
        UserError: the delegate wrote none, or one of another version.
    """
    try:
        values = json.loads(path.read_text())
        if values["version"] != _VERSION:
            raise UserError(f"the delegate's profile has version {values['version']}, not {_VERSION}; rebuild it.")
        regions = values["regions"]
        steps = tuple(
            Step(
                entry["name"],
                entry["kind"],
                entry["channels"],
                entry["height"],
                entry["width"],
                entry["macs"],
                entry["microseconds"] / _US_PER_MS,
                entry["bconv_microseconds"] / _US_PER_MS,
                # Where a step was fast and its repetition met something else, no more than there is.
                min(entry["scale_microseconds"], entry["microseconds"] - entry["bconv_microseconds"]) / _US_PER_MS,
            )
            for region in regions
            for entry in region["steps"]
        )
        return Profile(
            values["kernel"],
            values["threads"],
            sum(region["nodes"] for region in regions),
            sum(region["arena_bytes"] for region in regions),
            sum(region["weight_bytes"] for region in regions),
            run_ms,
            sum(region["microseconds"] for region in regions) / _US_PER_MS,
            steps,
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"the delegate left no profile that can be read ({error!r}); is there room for it?") from error
