"""Operators, multiply-accumulates and parameters of an ONNX graph."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bihrnet_edge.runtimes.work import Work

#: ``onnx.TensorProto.UINT8``.
_UINT8 = 2


def histogram(model: Any) -> dict[str, int]:
    """Number of operators by type, most frequent first, without those that only compute constants."""
    constant = _computed_constants(model.graph)
    return dict(Counter(node.op_type for node in model.graph.node if node.output[0] not in constant).most_common())


def packed_kernels(model: Any) -> tuple[int, int]:
    """How many convolutions have a kernel that is computed from constants, and the bytes of those that hold bits."""
    graph = model.graph
    constant = _computed_constants(graph)
    makers = {name: node for node in graph.node for name in node.output if name in constant}
    kernels = {node.input[1] for node in graph.node if node.op_type == "Conv" and node.input[1] in constant}
    wanted, seen = list(kernels), set(kernels)
    while wanted:
        node = makers.get(wanted.pop())
        new = set(node.input) - seen if node is not None else set()
        seen |= new
        wanted += new
    bits = (tensor for tensor in graph.initializer if tensor.data_type == _UINT8 and tensor.name in seen)
    return len(kernels), sum(len(tensor.raw_data) for tensor in bits)


def _computed_constants(graph: Any) -> set[str]:
    """Names of what nodes compute from constants alone, which ONNX Runtime does when it loads the model."""
    known = {tensor.name for tensor in graph.initializer} - {value.name for value in graph.input} | {""}
    stored = set(known)
    for node in graph.node:  # in the order of execution
        subgraph = any(attribute.HasField("g") for attribute in node.attribute)  # may read names from outside
        if (node.input or node.op_type == "Constant") and not subgraph and known.issuperset(node.input):
            known.update(node.output)
    return known - stored


def is_binary(kernel: NDArray[Any]) -> bool:
    """Whether a kernel ``(O, ...)`` holds ``+-alpha`` with one ``alpha > 0`` per output channel."""
    magnitude = np.abs(kernel.reshape(kernel.shape[0], -1))
    if magnitude.shape[1] < 2:
        return False
    alpha = magnitude[:, :1]
    return bool((alpha > 0).all() and np.allclose(magnitude, alpha, rtol=1e-5, atol=0))


def work_of(model: Any) -> tuple[Work, int]:
    """Work of a model with inferred shapes, and how many operators could not be counted.

    Binary kernels are ``+-alpha`` floats here; :func:`is_binary` recognises them.
    """
    from onnx import numpy_helper

    graph = model.graph
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    sizes: dict[str, tuple[int, ...] | None] = {}
    for value in [*graph.value_info, *graph.output]:
        dims = value.type.tensor_type.shape.dim
        known = all(dim.HasField("dim_value") for dim in dims)
        sizes[value.name] = tuple(dim.dim_value for dim in dims) if known else None

    binary_macs = float_macs = binary_parameters = open_shapes = 0
    binary_names: set[str] = set()
    for node in graph.node:
        if node.op_type not in ("Conv", "Gemm", "MatMul"):
            continue
        if node.input[1] not in weights:
            open_shapes += 1
            continue
        kernel = weights[node.input[1]]
        shape = sizes.get(node.output[0])
        binary = node.op_type == "Conv" and is_binary(kernel)
        if binary and node.input[1] not in binary_names:
            binary_names.add(node.input[1])
            binary_parameters += kernel.size
        if shape is None:
            open_shapes += 1
            continue
        macs = math.prod(shape) * (math.prod(kernel.shape[1:]) if node.op_type == "Conv" else _depth(node, kernel))
        binary_macs += macs if binary else 0
        float_macs += 0 if binary else macs
    float_parameters = sum(
        array.size for name, array in weights.items() if array.dtype.kind == "f" and name not in binary_names
    )
    return Work(binary_macs, float_macs, binary_parameters, float_parameters), open_shapes


def _depth(node: Any, kernel: NDArray[Any]) -> int:
    """Length of the sums of a matrix product."""
    transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
    return int(kernel.shape[-1] if transposed else kernel.shape[-2])
