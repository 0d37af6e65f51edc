"""What form an ``.onnx`` takes; kept apart from what writes it, which imports torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast, get_args

from bihrnet_edge.errors import UserError

#: Binary kernels as bits that the runtime expands when it loads the file, or as floats.
Weights = Literal["packed", "plain"]


@dataclass(frozen=True)
class OnnxForm:
    """How to write an ``.onnx``.

    Attributes:
        weights: of binary convolutions. A real-valued model has none: either way its weights are plain.
    """

    weights: Weights = "packed"


def onnx_form(weights: str) -> OnnxForm:
    """From what a user typed.

    Raises:
        UserError: there is no such form.
    """
    if weights not in get_args(Weights):
        raise UserError(f"--onnx-weights is {weights!r}; choose one of {', '.join(get_args(Weights))}.")
    return OnnxForm(cast(Weights, weights))
