"""The lower half of :mod:`lce_models`: a ``.tflite`` file written tensor by tensor and operator by operator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import flexbuffers

Shape = Sequence[int]

ALIGNMENT = 16  # what TFLite's schema asks of a constant's bytes
TYPES = {
    "float32": 0, "float16": 1, "int32": 2, "uint8": 3, "int64": 4, "string": 5, "bool": 6, "int16": 7, "int8": 9,
}  # fmt: skip

#: Operators with options: the class in the schema. The others that the tests use have none, or need none.
OPTIONS = {
    "ADD": "AddOptions",
    "AVERAGE_POOL_2D": "Pool2DOptions",
    "CONCATENATION": "ConcatenationOptions",
    "CONV_2D": "Conv2DOptions",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
    "DEQUANTIZE": "DequantizeOptions",
    "MAXIMUM": "MaximumMinimumOptions",
    "MAX_POOL_2D": "Pool2DOptions",
    "MEAN": "ReducerOptions",
    "MINIMUM": "MaximumMinimumOptions",
    "MUL": "MulOptions",
    "PAD": "PadOptions",
    "RESHAPE": "ReshapeOptions",
    "RESIZE_NEAREST_NEIGHBOR": "ResizeNearestNeighborOptions",
    "SLICE": "SliceOptions",
    "SOFTMAX": "SoftmaxOptions",
    "STRIDED_SLICE": "StridedSliceOptions",
    "SUB": "SubOptions",
}


def flex_map(options: Mapping[str, Any]) -> bytes:
    """A FlexBuffer map, as LCE's converter writes an operator's options."""
    return bytes(flexbuffers.Dumps(dict(options)))


class _AlignedBuffer(schema.BufferT):
    """A buffer whose bytes lie where the schema wants them; the generated Python ignores ``force_align``."""

    def Pack(self, builder: flatbuffers.Builder) -> int:  # noqa: N802 - the generated code calls it so
        place = None
        if self.data is not None:
            content = bytes(self.data)
            builder.StartVector(1, len(content), ALIGNMENT)
            builder.head -= len(content)
            builder.Bytes[builder.Head() : builder.Head() + len(content)] = content
            place = builder.EndVector()
        schema.BufferStart(builder)
        if place is not None:
            schema.BufferAddData(builder, place)
        return schema.BufferEnd(builder)


class Graph:
    """One subgraph; tensors are their indices."""

    def __init__(self) -> None:
        self.tensors: list[Any] = []
        self.operators: list[Any] = []
        self.codes: list[Any] = []
        self.buffers: list[Any] = [_AlignedBuffer()]  # buffer 0 is the empty one, by convention
        self.inputs: list[int] = []

    def shape(self, tensor: int) -> tuple[int, ...]:
        return tuple(int(size) for size in self.tensors[tensor].shape)

    def dtype(self, tensor: int) -> str:
        return next(name for name, code in TYPES.items() if code == self.tensors[tensor].type)

    def quantization(self, tensor: int) -> dict[str, Any]:
        """The scale and zero point of a tensor, as :meth:`tensor` takes them; nothing for a tensor of floats."""
        entry = self.tensors[tensor].quantization
        return {} if entry is None else {"scale": float(entry.scale[0]), "zero_point": int(entry.zeroPoint[0])}

    # Tensors

    def tensor(
        self,
        shape: Shape,
        dtype: str = "float32",
        *,
        name: str | None = None,
        scale: float | Sequence[float] | None = None,
        zero_point: int = 0,
    ) -> int:
        """A tensor without data; ``scale`` None is no quantization, several are one a slice of the first dimension."""
        entry = schema.TensorT()
        entry.shape = np.asarray(shape, np.int32)
        entry.type = TYPES[dtype]
        entry.name = name or f"t{len(self.tensors)}"
        entry.buffer = 0
        if scale is not None:
            entry.quantization = schema.QuantizationParametersT()
            entry.quantization.scale = np.atleast_1d(np.asarray(scale, np.float32))
            entry.quantization.zeroPoint = np.full(len(entry.quantization.scale), zero_point, np.int64)
        self.tensors.append(entry)
        return len(self.tensors) - 1

    def input(self, shape: Shape, dtype: str = "float32", **kwargs: Any) -> int:
        """A graph input."""
        tensor = self.tensor(shape, dtype, **kwargs)
        self.inputs.append(tensor)
        return tensor

    def constant(self, value: Any, dtype: str | None = None, **kwargs: Any) -> int:
        """A constant; ``dtype`` is NumPy's name, by default the array's own."""
        array = np.ascontiguousarray(value, dtype)
        tensor = self.tensor(array.shape, array.dtype.name, **kwargs)
        buffer = _AlignedBuffer()
        buffer.data = array.tobytes()
        self.buffers.append(buffer)
        self.tensors[tensor].buffer = len(self.buffers) - 1
        return tensor

    # Operators
    def _code(self, builtin: int, custom: str | None, version: int) -> int:
        for index, code in enumerate(self.codes):
            if (code.builtinCode, code.customCode, code.version) == (builtin, custom, version):
                return index
        code = schema.OperatorCodeT()
        code.builtinCode, code.customCode, code.version = builtin, custom, version
        code.deprecatedBuiltinCode = min(builtin, 127)
        self.codes.append(code)
        return len(self.codes) - 1

    def _operator(self, code: int, inputs: Sequence[int], outputs: Sequence[int]) -> Any:
        operator = schema.OperatorT()
        operator.opcodeIndex = code
        operator.inputs = np.asarray(inputs, np.int32)
        operator.outputs = np.asarray(outputs, np.int32)
        self.operators.append(operator)
        return operator

    def builtin(
        self, name: str, inputs: Sequence[int], outputs: Sequence[int], version: int = 1, **options: Any
    ) -> None:
        """A built-in operator, by the schema's name; ``options`` are fields of its options' generated class."""
        operator = self._operator(self._code(getattr(schema.BuiltinOperator, name), None, version), inputs, outputs)
        if name in OPTIONS:
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, OPTIONS[name])
            operator.builtinOptions = getattr(schema, OPTIONS[name] + "T")()
            for key, value in options.items():
                if not hasattr(operator.builtinOptions, key):
                    raise AttributeError(f"{OPTIONS[name]} has no {key}")
                setattr(operator.builtinOptions, key, value)
        elif options:
            raise AttributeError(f"{name} has no options here")

    def custom(
        self, name: str, inputs: Sequence[int], outputs: Sequence[int], options: Mapping[str, Any] | bytes | None = None
    ) -> None:
        """A custom operator; ``options`` become a FlexBuffer map, bytes are taken as they are."""
        operator = self._operator(self._code(schema.BuiltinOperator.CUSTOM, name, 1), inputs, outputs)
        if options is not None:
            content = options if isinstance(options, bytes) else flex_map(options)
            operator.customOptions = np.frombuffer(content, np.uint8)

    def finish(self, *outputs: int, every_field: bool = False) -> bytes:
        """The model's bytes, with these graph outputs; ``every_field`` writes fields that have the schema's default."""
        graph = schema.SubGraphT()
        graph.tensors, graph.operators, graph.name = self.tensors, self.operators, "main"
        graph.inputs, graph.outputs = np.asarray(self.inputs, np.int32), np.asarray(outputs, np.int32)
        model = schema.ModelT()
        model.version = 3
        model.operatorCodes, model.subgraphs, model.buffers = self.codes, [graph], self.buffers
        builder = flatbuffers.Builder(1024)
        builder.ForceDefaults(every_field)
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())
