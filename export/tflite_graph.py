"""What the exporter asks of a ``.tflite`` it just made: its operators and the options of the binary convolutions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bihrnet_edge.export.builtin_form import BuiltinPrecision
from bihrnet_edge.runtimes.tflite_file import TfliteFile, flex_options, parse_tflite

BINARY_CONV = "LceBconv2d"
FLOAT_CONV = "CONV_2D"

_MADE = Path("the converted model")
#: TFLite's enum Padding, which LCE writes into its options.
_PADDING_SAME = 0


def count_ops(data: bytes) -> dict[str, int]:
    """How many operators of each kind a ``.tflite`` holds, most frequent first.

    Built-in operators go by their enum name (``CONV_2D``), custom ones by their code (``LceBconv2d``).

    Raises:
        UserError: the bytes are not a TensorFlow Lite flatbuffer.
    """
    return parse_tflite(data, _MADE).histogram()


def binary_conv_options(data: bytes) -> list[dict[str, Any]]:
    """The options of every ``LceBconv2d``, in graph order: strides, dilations, padding, pad_values, ..."""
    return [flex_options(op) for op in parse_tflite(data, _MADE).operators if op.name == BINARY_CONV]


def slow_binary_convs(data: bytes) -> list[dict[str, Any]]:
    """The options of every ``LceBconv2d`` that does not pad ``SAME`` with +1, LCE's fast path."""
    return [
        options
        for options in binary_conv_options(data)
        if options["padding"] != _PADDING_SAME or options["pad_values"] != 1
    ]


def builtin_precision(file: TfliteFile) -> BuiltinPrecision:
    """Which form a built-in-op ``.tflite`` has."""
    if any(tensor.dtype == "float16" for tensor in file.tensors):
        return "float16"
    convolutions = [op for op in file.operators if op.name == FLOAT_CONV]
    if any(file.tensors[op.outputs[0]].dtype == "int8" for op in convolutions):
        return "int8"
    return "dynamic" if any(file.tensors[op.inputs[1]].dtype == "int8" for op in convolutions) else "float32"
