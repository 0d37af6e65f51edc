"""What of an ``.lce.tflite`` is int8."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bihrnet_edge.calibration.ranges import Ranges
from bihrnet_edge.errors import UserError


@dataclass(frozen=True)
class Int8Form:
    """Int8 at these ranges.

    Attributes:
        ranges: of the activations.
        kept: the activations that stay in float; none of them for ``int8``.
    """

    ranges: Ranges
    kept: tuple[str, ...] = ()

    @classmethod
    def of(cls, ranges: Ranges, *, mixed: bool, where: Path) -> Int8Form:
        """Int8 throughout, or what the ranges' sweep chose for ``mixed``.

        Raises:
            UserError: no sweep was made for the ranges, which were read from ``where``.
        """
        if not mixed:
            return cls(ranges)
        if ranges.sensitivity is None:
            raise UserError(
                f"ranges {where} say nothing about what int8 hurts, which mixed needs; make them with calibrate "
                "--sweep 8."
            )
        return cls(ranges, ranges.sensitivity.kept)
