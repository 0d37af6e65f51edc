"""Smaller kernels in a ``.tflite`` of float convolutions, without changing their values."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

from bihrnet_edge.export.tflite_metadata import pack, unpack
from bihrnet_edge.export.weights import binary_magnitude

_CONV = schema.BuiltinOperator.CONV_2D
#: Since when CONV_2D takes float activations with int8 kernels of one scale a channel, and DEQUANTIZE float16.
_HYBRID_VERSION, _FLOAT16_VERSION = 5, 3


def store_signs(data: bytes) -> bytes:
    """Binary kernels as int8 -1 and 1, with one scale a channel.

    Runtimes then quantise the activations before each such convolution; 0 and 1 are two of the 256 values.
    """
    model = unpack(data)
    for op in _convolutions(model):
        tensor = model.subgraphs[0].tensors[op.inputs[1]]
        kernel = _values(model, tensor)
        magnitude = binary_magnitude(kernel)
        if magnitude is None:
            continue  # the stem's and the head's
        model.buffers[tensor.buffer].data = np.where(kernel < 0, -1, 1).astype(np.int8).view(np.uint8).ravel()
        tensor.type = schema.TensorType.INT8
        tensor.quantization = schema.QuantizationParametersT(
            scale=magnitude.ravel(), zeroPoint=np.zeros(len(kernel), np.int64), quantizedDimension=0
        )
    for code in model.operatorCodes:
        if code.builtinCode == _CONV:
            code.version = max(code.version, _HYBRID_VERSION)
    return pack(model, len(data))


def store_float16(data: bytes) -> bytes:
    """Kernels and biases that are float16's as such, with a DEQUANTIZE behind each, which runtimes do once.

    Both of a convolution or neither, as XNNPACK wants it.
    """
    model = unpack(data)
    graph = model.subgraphs[0]
    code = len(model.operatorCodes)
    expand: dict[int, Any] = {}
    for op in _convolutions(model):
        indices = [int(index) for index in op.inputs[1:3]]
        arrays = [_values(model, graph.tensors[index]) for index in indices]
        if not all(np.array_equal(array, array.astype(np.float16)) for array in arrays):
            continue
        for index, array in zip(indices, arrays, strict=True):
            if index in expand:
                continue
            tensor = graph.tensors[index]
            stored = schema.TensorT(
                shape=tensor.shape,
                type=schema.TensorType.FLOAT16,
                buffer=len(model.buffers),
                name=tensor.name + b".float16",
            )
            model.buffers.append(schema.BufferT(data=array.astype(np.float16).view(np.uint8).ravel()))
            model.buffers[tensor.buffer].data = None
            expand[index] = schema.OperatorT(opcodeIndex=code, inputs=[len(graph.tensors)], outputs=[index])
            graph.tensors.append(stored)
    dequantize = schema.BuiltinOperator.DEQUANTIZE
    model.operatorCodes.append(
        schema.OperatorCodeT(deprecatedBuiltinCode=dequantize, builtinCode=dequantize, version=_FLOAT16_VERSION)
    )
    graph.operators = [*expand.values(), *graph.operators]
    return pack(model, len(data))


def _convolutions(model: Any) -> list[Any]:
    return [op for op in model.subgraphs[0].operators if model.operatorCodes[op.opcodeIndex].builtinCode == _CONV]


def _values(model: Any, tensor: Any) -> npt.NDArray[np.float32]:
    """Of a float32 constant."""
    return np.frombuffer(bytes(model.buffers[tensor.buffer].data), np.float32).reshape(tensor.shape)
