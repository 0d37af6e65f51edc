"""Operators of an ONNX graph: their multiply-accumulates, parameters and bytes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bihrnet_edge.runtimes.layers import BINARY, FLOAT, INT8, Layer
from bihrnet_edge.runtimes.work import Work

#: ``onnx.TensorProto.UINT8``.
_UINT8 = 2
_RANK = 4
_PRODUCTS = ("Conv", "Gemm", "MatMul")


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


def layers_of(model: Any) -> tuple[tuple[Layer, ...], int]:
    """The operators of a model with inferred shapes, and how many could not be counted.

    Binary kernels are ``+-alpha`` floats here; :func:`is_binary` recognises them. A constant that two operators share
    counts for the first, and as 1-bit weights where any of them has it for a kernel.
    """
    from onnx import numpy_helper

    graph = model.graph
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    sizes = _sizes(graph)
    kernels = {node.input[1] for node in graph.node if node.op_type == "Conv" and node.input[1] in weights}
    binary_names = {name for name in kernels if is_binary(weights[name])}
    layers: list[Layer] = []
    counted: set[str] = set()
    makers: dict[str, int] = {}
    open_shapes = 0
    for node in graph.node:
        read = list(dict.fromkeys(_read_by(node)))
        new = [name for name in read if name in weights and name not in counted]
        counted.update(new)
        macs = _macs(node, weights, sizes) if node.op_type in _PRODUCTS else 0
        open_shapes += macs is None
        binary = node.op_type == "Conv" and node.input[1] in binary_names
        work = Work(
            (macs or 0) if binary else 0,
            0 if binary else (macs or 0),
            sum(weights[name].size for name in new if name in binary_names),
            sum(weights[name].size for name in new if name not in binary_names and weights[name].dtype.kind == "f"),
        )
        shape, kernel = sizes.get(node.output[0]), weights.get(node.input[1]) if node.op_type == "Conv" else None
        layers.append(
            Layer(
                name=node.name or node.output[0],
                op=node.op_type,
                kind=BINARY if binary else INT8 if "Integer" in node.op_type or "QLinear" in node.op_type else FLOAT,
                shape=_channels_last(shape),
                kernel=None if kernel is None or kernel.ndim != _RANK else (kernel.shape[2], kernel.shape[3]),
                work=work,
                constant_bytes=sum(weights[name].nbytes for name in new),
                reads=tuple(sorted({makers[name] for name in read if name in makers})),
            )
        )
        makers |= dict.fromkeys(node.output, len(layers) - 1)
    return tuple(layers), open_shapes


def _sizes(graph: Any) -> dict[str, tuple[int, ...] | None]:
    """Shapes by name; None where a size is open."""
    sizes: dict[str, tuple[int, ...] | None] = {}
    for value in [*graph.value_info, *graph.output]:
        dims = value.type.tensor_type.shape.dim
        known = all(dim.HasField("dim_value") for dim in dims)
        sizes[value.name] = tuple(dim.dim_value for dim in dims) if known else None
    return sizes


def _channels_last(shape: tuple[int, ...] | None) -> tuple[int, ...] | None:
    return (shape[0], shape[2], shape[3], shape[1]) if shape is not None and len(shape) == _RANK else shape


def _read_by(node: Any) -> Iterator[str]:
    """Names that a node reads, also from within a branch or the body of a loop."""
    yield from node.input
    for attribute in node.attribute:
        for inner in [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]:
            for child in inner.node:
                yield from _read_by(child)


def _macs(node: Any, weights: dict[str, NDArray[Any]], sizes: dict[str, tuple[int, ...] | None]) -> int | None:
    """Of a convolution or product; None where its weights or sizes are not in the file."""
    kernel, shape = weights.get(node.input[1]), sizes.get(node.output[0])
    if kernel is None or shape is None:
        return None
    return math.prod(shape) * (math.prod(kernel.shape[1:]) if node.op_type == "Conv" else _depth(node, kernel))


def _depth(node: Any, kernel: NDArray[Any]) -> int:
    """Length of the sums of a matrix product."""
    transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
    return int(kernel.shape[-1] if transposed else kernel.shape[-2])
