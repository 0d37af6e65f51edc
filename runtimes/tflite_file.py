"""What a ``.tflite`` file holds, read in Python and checked before an interpreter gets it.

Field numbers are those of TFLite's ``schema.fbs``.
"""

from __future__ import annotations

import functools
import math
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bihrnet_edge.errors import UserError
from bihrnet_edge.pose.metadata import METADATA_KEY, PoseMetadata
from bihrnet_edge.runtimes.base import parse_metadata
from bihrnet_edge.runtimes.flatbuffer import Buffer, FlatbufferError, Table

_IDENTIFIER = b"TFL3"
_CUSTOM = 32  # BuiltinOperator.CUSTOM
_LCE_PREFIX = "Lce"
#: TensorType to numpy, for the types of fixed size.
_TYPES = {
    0: "float32", 1: "float16", 2: "int32", 3: "uint8", 4: "int64", 6: "bool", 7: "int16", 9: "int8", 10: "float64",
    12: "uint64", 15: "uint32", 16: "uint16",
}  # fmt: skip
_STRING = 5


@dataclass(frozen=True)
class Tensor:
    """A tensor: ``dtype`` is numpy's name, or ``string``/``type N``; ``data`` is flat, for constants only."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    buffer: int
    scale: float | None = None
    zero_point: int | None = None
    data: NDArray[Any] | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Operator:
    """An operator: builtin name (``CONV_2D``) or custom code (``LceBconv2d``), tensor indices, FlexBuffer options."""

    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    custom: bool = False
    custom_options: bytes = b""


@dataclass(frozen=True)
class TfliteFile:
    """The first subgraph of a ``.tflite`` file, and our metadata if it carries any."""

    path: Path
    size: int
    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    metadata: PoseMetadata | None

    def histogram(self) -> dict[str, int]:
        """Number of operators by name, most frequent first."""
        return dict(Counter(op.name for op in self.operators).most_common())

    @property
    def custom_ops(self) -> set[str]:
        """Names of the operators that are not built in."""
        return {op.name for op in self.operators if op.custom}

    @property
    def needs_lce(self) -> bool:
        """True where Larq Compute Engine's operators occur."""
        return any(name.startswith(_LCE_PREFIX) for name in self.custom_ops)


def read_tflite(path: Path) -> TfliteFile:
    """Read and check a ``.tflite`` file.

    Raises:
        UserError: the file is missing, is no TFLite model, is truncated or contradicts itself.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"model {path} cannot be read ({error.strerror}); check the path.") from error
    return parse_tflite(data, path)


def parse_tflite(data: bytes, path: Path) -> TfliteFile:
    """:func:`read_tflite` of bytes in memory; ``path`` is what errors call them."""
    if data[4:8] != _IDENTIFIER:
        raise UserError(f"{path} is not a TFLite model (no TFL3 mark); give a .tflite file.")
    try:
        return _parse(path, data)
    except (FlatbufferError, RecursionError, MemoryError) as error:
        raise UserError(f"{path} is damaged ({error}); copy or export it again.") from error


def read_metadata(path: Path) -> PoseMetadata | None:
    """Our metadata of a ``.tflite`` file, or None where it carries none; errors as in :func:`read_tflite`."""
    return read_tflite(path).metadata


def _parse(path: Path, data: bytes) -> TfliteFile:
    model = Buffer(data).root()
    buffers = [_buffer(table, data) for table in model.tables(4)]
    codes = [_operator_name(code) for code in model.tables(1)]
    subgraphs = [_subgraph(table, buffers, codes) for table in model.tables(2)]
    if not subgraphs:
        raise FlatbufferError("it holds no graph")
    tensors, operators, inputs, outputs = subgraphs[0]
    metadata = None
    for entry in model.tables(6):
        if entry.string(0) == METADATA_KEY:
            metadata = parse_metadata(_entry(buffers, entry.scalar(1, "I"), "buffer").tobytes(), path)
    return TfliteFile(path, len(data), tensors, operators, inputs, outputs, metadata)


def _entry(values: Any, index: int, what: str) -> Any:
    if not 0 <= index < len(values):
        raise FlatbufferError(f"there is no {what} {index} among {len(values)}")
    return values[index]


def _buffer(table: Table, data: bytes) -> NDArray[Any]:
    start, size = table.scalar(1, "Q"), table.scalar(2, "Q")
    if start > 1:  # models above 2 GB keep their constants behind the FlatBuffer
        if start + size > len(data):
            raise FlatbufferError("a constant runs past the end of the file")
        return np.frombuffer(data, np.uint8, size, start)
    content = table.vector(0, "u1")
    return np.empty(0, np.uint8) if content is None else content


@functools.cache
def _builtin_names() -> dict[int, str]:
    try:
        from ai_edge_litert.schema_py_generated import BuiltinOperator
    except ImportError:  # the module is not a documented part of the wheel; only names are lost without it
        return {}
    return {number: name for name, number in vars(BuiltinOperator).items() if not name.startswith("_")}


def _operator_name(table: Table) -> tuple[str, bool]:
    builtin = max(table.scalar(3, "i"), table.scalar(0, "b"))  # old files have the number in a byte
    if builtin == _CUSTOM:
        return table.string(1), True
    return _builtin_names().get(builtin, f"BUILTIN_{builtin}"), False


def _subgraph(
    table: Table, buffers: list[NDArray[Any]], codes: list[tuple[str, bool]]
) -> tuple[tuple[Tensor, ...], tuple[Operator, ...], tuple[int, ...], tuple[int, ...]]:
    tensors = tuple(_tensor(entry, buffers) for entry in table.tables(0))

    def indices(values: NDArray[Any] | None, lowest: int) -> tuple[int, ...]:
        found = () if values is None else tuple(int(value) for value in values)
        for index in found:
            if not lowest <= index < len(tensors):
                raise FlatbufferError(f"an operator uses tensor {index} of {len(tensors)}")
        return found

    operators = []
    for entry in table.tables(3):
        name, custom = _entry(codes, entry.scalar(0, "I"), "operator code")
        options = entry.vector(5, "u1")
        entry.table(4)  # the builtin options: only that they lie inside the file
        operator = Operator(
            name,
            indices(entry.vector(1, "i4"), -1),  # -1: an optional input left out
            indices(entry.vector(2, "i4"), 0),
            custom,
            b"" if options is None else options.tobytes(),
        )
        if not operator.outputs or (custom and name.startswith(_LCE_PREFIX) and not operator.inputs):
            raise FlatbufferError(f"operator {name} has no input or output")
        if name == "LceBconv2d":
            flex_options(operator)
        operators.append(operator)
    return tensors, tuple(operators), indices(table.vector(1, "i4"), 0), indices(table.vector(2, "i4"), 0)


def _tensor(table: Table, buffers: list[NDArray[Any]]) -> Tensor:
    dims = table.vector(0, "i4")
    shape = () if dims is None else tuple(int(size) for size in dims)
    kind = table.scalar(1, "b")
    dtype = "string" if kind == _STRING else _TYPES.get(kind, f"type {kind}")
    name, index = table.string(3), table.scalar(2, "I")
    content = _entry(buffers, index, "buffer")
    if any(size < 0 for size in shape) or math.prod(shape) > 2**31:
        raise FlatbufferError(f"tensor {name!r} has the impossible shape {shape}")
    data = None
    if content.size and kind in _TYPES:
        expected = math.prod(shape) * np.dtype(dtype).itemsize
        if content.size != expected and table.table(6) is None:  # field 6: sparse tensors store less
            raise FlatbufferError(f"tensor {name!r} needs {expected} bytes and has {content.size}")
        data = content.view(dtype) if content.size == expected else None
    scale = zero_point = None
    if (quantization := table.table(4)) is not None:
        scales, zero_points = quantization.vector(2, "f4"), quantization.vector(3, "i8")
        if scales is not None and len(scales) == 1:
            scale = float(scales[0])
            zero_point = int(zero_points[0]) if zero_points is not None and len(zero_points) else 0
    return Tensor(name, shape, dtype, index, scale, zero_point, data)


#: What only turns one kind of values into another, or takes them from the 1-bit world.
_CONVERSIONS = frozenset({"QUANTIZE", "DEQUANTIZE", "LceQuantize"})


def real_precision(file: TfliteFile) -> str:
    """What the operators compute that are not binary: ``float``, ``int8``, or both: ``mixed``."""
    results = {file.tensors[op.outputs[0]].dtype for op in file.operators if op.name not in _CONVERSIONS and op.outputs}
    return "float" if "int8" not in results else "int8" if results == {"int8"} else "mixed"


def flex_options(operator: Operator) -> dict[str, Any]:
    """The options of a custom operator, a FlexBuffer map.

    Raises:
        FlatbufferError: they are not a map, or damaged.
    """
    from flatbuffers import flexbuffers

    try:
        options = flexbuffers.Loads(operator.custom_options)
    except Exception as error:  # the reader raises whatever the damaged bytes lead it into
        raise FlatbufferError(f"the options of {operator.name} cannot be read") from error
    if not isinstance(options, dict):
        raise FlatbufferError(f"the options of {operator.name} are not a map")
    return options
