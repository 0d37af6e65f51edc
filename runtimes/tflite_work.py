"""Multiply-accumulates and parameters of a ``.tflite`` file."""

from __future__ import annotations

import math
from collections.abc import Sequence

from bihrnet_edge.runtimes.onnx_graph import is_binary
from bihrnet_edge.runtimes.tflite_file import Operator, Tensor, TfliteFile, flex_options
from bihrnet_edge.runtimes.work import Work

_EXPANDS = "DEQUANTIZE"
_BITS_PER_WORD = 32
_BIAS_INPUT = 2
_THRESHOLD_INPUT = 4  # of LceBconv2d: input, filter, multiplier, bias, thresholds


def work_of(file: TfliteFile) -> Work:
    """Of the file's first graph; a constant that two operators share is counted once.

    A ``CONV_2D`` whose weights are +-one value per output channel counts as binary.

    Raises:
        FlatbufferError, IndexError, KeyError: an operator lacks what it needs.
    """
    total = Work(0, 0, 0, 0)
    counted: set[int] = set()
    # Constants of float16 count where they are used.
    stored = {op.outputs[0]: op.inputs[0] for op in file.operators if op.name == _EXPANDS}
    tensors = [file.tensors[stored.get(index, index)] for index in range(len(file.tensors))]
    for op in file.operators:
        if op.name == _EXPANDS:
            continue
        binary, real, binary_weights = _operator(file, op, tensors)
        real_weights = 0
        if binary_weights and (buffer := tensors[op.inputs[1]].buffer) not in counted:
            counted.add(buffer)
        else:
            binary_weights = 0
        for place, index in enumerate(op.inputs):
            tensor = tensors[index] if index >= 0 else None
            if tensor is None or tensor.data is None or tensor.buffer in counted:
                continue
            # int32 holds shapes and indices, except as a convolution's bias or as LCE's thresholds
            trained = tensor.dtype in ("float32", "float16", "int8", "uint8") or (
                tensor.dtype == "int32"
                and place == {"LceBconv2d": _THRESHOLD_INPUT}.get(op.name, _BIAS_INPUT)
                and (binary or real)
            )
            if trained:
                counted.add(tensor.buffer)
                real_weights += tensor.data.size
        total += Work(binary, real, binary_weights, real_weights)
    return total


def _operator(file: TfliteFile, op: Operator, stored: Sequence[Tensor]) -> tuple[int, int, int]:
    """Binary MACs, other MACs and binary weights of one operator; ``stored`` are the tensors as the file has them."""

    def shape(index: int) -> tuple[int, ...]:
        return file.tensors[index].shape

    if op.name == "LceBconv2d":
        channels_out, height, width, words = shape(op.inputs[1])
        channels = int(flex_options(op)["channels_in"])
        groups = max(1, -(-channels // _BITS_PER_WORD) // words)
        weights = channels_out * height * width * (channels // groups)
        count, rows, columns = shape(op.outputs[0])[:3]  # the fourth counts words where the output is bitpacked
        return count * rows * columns * weights, 0, weights
    if op.name == "CONV_2D":
        macs = math.prod(shape(op.outputs[0])) * math.prod(shape(op.inputs[1])[1:])
        kernel = stored[op.inputs[1]].data
        if kernel is not None and is_binary(kernel.reshape(shape(op.inputs[1]))):
            return macs, 0, kernel.size
        return 0, macs, 0
    if op.name == "DEPTHWISE_CONV_2D":
        _, height, width, _ = shape(op.inputs[1])
        return 0, math.prod(shape(op.outputs[0])) * height * width, 0
    if op.name == "FULLY_CONNECTED":
        return 0, math.prod(shape(op.outputs[0])) * shape(op.inputs[1])[-1], 0
    if op.name == "TRANSPOSE_CONV":
        channels_out, height, width, _ = shape(op.inputs[1])
        return 0, math.prod(shape(op.inputs[2])) * channels_out * height * width, 0
    return 0, 0, 0
