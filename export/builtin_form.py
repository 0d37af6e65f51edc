"""What form a built-in-op ``.tflite`` takes; kept apart from what writes it, which imports TensorFlow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast, get_args

from bihrnet_edge.calibration.ranges import Ranges, read_ranges
from bihrnet_edge.errors import UserError

#: ``float32``; ``float16``: weights; ``dynamic``: binary kernels as int8, activations quantised while running;
#: ``int8``: everything, at calibrated ranges.
BuiltinPrecision = Literal["float32", "float16", "dynamic", "int8"]


@dataclass(frozen=True)
class BuiltinForm:
    """How to write a built-in-op ``.tflite``.

    Attributes:
        precision: see :data:`BuiltinPrecision`.
        ranges: of the checkpoint's activations; for ``int8`` alone.
    """

    precision: BuiltinPrecision = "float32"
    ranges: Ranges | None = None

    @property
    def rounds(self) -> bool:
        """True where what is computed is not the checkpoint's network to the last digits."""
        return self.precision in ("float16", "int8")


def builtin_form(precision: str, ranges: Path | None, targets: Sequence[str]) -> BuiltinForm:
    """From what a user typed; reads the ranges where they are needed.

    Raises:
        UserError: there is no such precision, it needs ranges or another target, or they are no ranges.
    """
    if precision not in get_args(BuiltinPrecision):
        raise UserError(f"--tflite-precision is {precision!r}; choose one of {', '.join(get_args(BuiltinPrecision))}.")
    if precision != "float32" and "tflite" not in targets:
        raise UserError(f"--tflite-precision {precision} is of --target tflite; give that as well.")
    if precision != "int8":
        return BuiltinForm(cast(BuiltinPrecision, precision))
    if ranges is None:
        raise UserError("--tflite-precision int8 needs --ranges; make them with bihrnet-edge calibrate.")
    return BuiltinForm("int8", read_ranges(ranges))
