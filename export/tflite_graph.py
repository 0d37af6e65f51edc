"""Reads what is in a ``.tflite``: its operators and the options of Larq Compute Engine's. Needs no TensorFlow."""

from __future__ import annotations

import collections
from collections.abc import Iterator
from typing import Any

from ai_edge_litert import schema_py_generated as schema
from flatbuffers import flexbuffers

from bihrnet_edge.errors import UserError

BINARY_CONV = "LceBconv2d"
FLOAT_CONV = "CONV_2D"

_IDENTIFIER = b"TFL3"
_BUILTIN_NAMES = {
    value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int) and name.isupper()
}
#: TFLite's enum Padding, which LCE writes into its options.
_PADDING_SAME = 0


def read_model(data: bytes) -> Any:
    """The root table of a ``.tflite``.

    Raises:
        UserError: the bytes are not a TensorFlow Lite flatbuffer.
    """
    if data[4:8] != _IDENTIFIER:
        raise UserError("the file is not a TensorFlow Lite model (its bytes 4 to 8 are not TFL3); give a .tflite file.")
    return schema.Model.GetRootAs(data)


def _operators(data: bytes) -> Iterator[tuple[str, Any]]:
    model = read_model(data)
    names = []
    for index in range(model.OperatorCodesLength()):
        code = model.OperatorCodes(index)
        custom = code.CustomCode()
        # Files from before schema 3a hold the code in the deprecated byte alone.
        builtin = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        names.append(custom.decode() if custom else _BUILTIN_NAMES[builtin])
    for index in range(model.SubgraphsLength()):
        graph = model.Subgraphs(index)
        for position in range(graph.OperatorsLength()):
            operator = graph.Operators(position)
            yield names[operator.OpcodeIndex()], operator


def count_ops(data: bytes) -> dict[str, int]:
    """How many operators of each kind a ``.tflite`` holds, most frequent first.

    Built-in operators go by their enum name (``CONV_2D``), custom ones by their code (``LceBconv2d``).
    """
    histogram = collections.Counter(name for name, _ in _operators(data))
    return dict(sorted(histogram.items(), key=lambda item: (-item[1], item[0])))


def binary_conv_options(data: bytes) -> list[dict[str, Any]]:
    """The options of every ``LceBconv2d``, in graph order: strides, dilations, padding, pad_values, ..."""
    return [
        flexbuffers.Loads(operator.CustomOptionsAsNumpy().tobytes())
        for name, operator in _operators(data)
        if name == BINARY_CONV
    ]


def slow_binary_convs(data: bytes) -> list[dict[str, Any]]:
    """The options of every ``LceBconv2d`` that does not pad ``SAME`` with +1, LCE's fast path."""
    return [
        options
        for options in binary_conv_options(data)
        if options["padding"] != _PADDING_SAME or options["pad_values"] != 1
    ]
