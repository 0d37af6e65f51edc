"""Binary kernels of an ONNX model stored as bits, which ONNX Runtime expands when it loads the model.

A kernel that holds ``+-a`` with one ``a`` an output channel is replaced by constants and four operators on them:

    bits (bytes) -> Cast int32 -> Gather bool (table of a byte's 8 bits) -> Reshape (O, I, H, W) -> Where(bit, -a, a)

All inputs are constant, so constant folding, which is part of every level of graph optimisation but "disabled",
computes the kernel once. ``Where`` only picks, so that it gives the very floats that were there before, but for the
sign of a zero. Up to it everything is a byte a weight or less, which keeps the memory of loading down. How else it can
be done, and what was measured: docs/decisions/0010-onnx-forms.md.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from bihrnet_edge.export.weights import binary_magnitude

_BITS = 8
_TABLE = "bits_of_byte"

FloatArray = npt.NDArray[np.float32]


def pack_binary_weights(model: onnx.ModelProto) -> int:
    """Store the binary kernels of ``Conv`` nodes as bits, in place; the model computes the same floats.

    Kernels that are not exactly ``+-a``, and those of no whole number of bytes, stay as they are.

    Returns:
        How many kernels were packed; 0 for a real-valued model, which stays as it is.
    """
    graph = model.graph
    used = dict.fromkeys(node.input[1] for node in graph.node if node.op_type == "Conv")
    constants: list[onnx.TensorProto] = []
    nodes: list[onnx.NodeProto] = []
    kept, packed = [], 0
    for tensor in graph.initializer:
        kernel = numpy_helper.to_array(tensor) if tensor.name in used else None
        magnitude = None if kernel is None else binary_magnitude(kernel)
        if kernel is None or magnitude is None or kernel.size % _BITS:
            kept.append(tensor)
            continue
        _expand(tensor.name, kernel, magnitude, constants, nodes)
        packed += 1
    if not packed:
        return 0
    table = (np.arange(1 << _BITS)[:, None] >> np.arange(_BITS)) & 1
    constants.append(numpy_helper.from_array(table.astype(np.bool_), _TABLE))
    # Operators must stand in the order of execution: the constants' first.
    nodes.extend(graph.node)
    del graph.initializer[:], graph.node[:]
    graph.initializer.extend(kept + constants)
    graph.node.extend(nodes)
    return packed


def _expand(
    name: str,
    kernel: FloatArray,
    magnitude: FloatArray,
    constants: list[onnx.TensorProto],
    nodes: list[onnx.NodeProto],
) -> None:
    """The constants and operators that give the tensor ``name`` the values of ``kernel``."""
    negative = np.signbit(kernel).ravel()
    for suffix, array in (
        ("bits", np.packbits(negative, bitorder="little")),
        ("shape", np.array(kernel.shape, np.int64)),
        ("negative", -magnitude),
        ("positive", magnitude),
    ):
        constants.append(numpy_helper.from_array(np.ascontiguousarray(array), f"{name}.{suffix}"))
    nodes += [
        helper.make_node("Cast", [f"{name}.bits"], [f"{name}.bytes"], to=onnx.TensorProto.INT32),
        helper.make_node("Gather", [_TABLE, f"{name}.bytes"], [f"{name}.rows"]),
        helper.make_node("Reshape", [f"{name}.rows", f"{name}.shape"], [f"{name}.sign"]),
        helper.make_node("Where", [f"{name}.sign", f"{name}.negative", f"{name}.positive"], [name]),
    ]
