"""The layers of a ``.tflite`` file: their multiply-accumulates, parameters and bytes."""

from __future__ import annotations

import math
from collections.abc import Sequence

from bihrnet_edge.runtimes.layers import BINARY, FLOAT, INT8, Layer, total
from bihrnet_edge.runtimes.onnx_graph import is_binary
from bihrnet_edge.runtimes.tflite_file import Operator, Tensor, TfliteFile, flex_options
from bihrnet_edge.runtimes.work import Work

_EXPANDS = "DEQUANTIZE"
_BITS_PER_WORD = 32
_RANK = 4
_BIAS_INPUT = 2
_THRESHOLD_INPUT = 4  # of LceBconv2d: input, filter, multiplier, bias, thresholds


def work_of(file: TfliteFile) -> Work:
    """Of the file's first graph; errors as in :func:`layers_of`."""
    return total(layers_of(file))


def layers_of(file: TfliteFile) -> tuple[Layer, ...]:
    """The operators of the file's first graph; a constant that two share counts for the first.

    A ``CONV_2D`` whose weights are +-one value per output channel counts as binary.

    Raises:
        FlatbufferError, IndexError, KeyError: an operator lacks what it needs.
    """
    layers: list[Layer] = []
    counted: set[int] = set()  # buffers whose values count as weights already
    taken: set[int] = set()  # and whose bytes do
    makers: dict[int, int] = {}  # of tensors, among the operators so far
    # Constants of float16 count where they are used.
    stored = {op.outputs[0]: op.inputs[0] for op in file.operators if op.name == _EXPANDS}
    tensors = [file.tensors[stored.get(index, index)] for index in range(len(file.tensors))]
    for op in file.operators:
        constant_bytes, work = 0, Work(0, 0, 0, 0)
        if op.name != _EXPANDS:
            work = _work(file, op, tensors, counted)
            for index in op.inputs:
                tensor = tensors[index] if index >= 0 else None
                if tensor is not None and tensor.data is not None and tensor.buffer not in taken:
                    taken.add(tensor.buffer)
                    constant_bytes += tensor.data.nbytes
        result = file.tensors[op.outputs[0]]
        layers.append(
            Layer(
                name=result.name,
                op=op.name,
                kind=BINARY if work.binary_macs else _kind(op, result),
                shape=_real_shape(file, op, result),
                kernel=_kernel(file, op),
                work=work,
                constant_bytes=constant_bytes,
                reads=tuple(sorted({makers[index] for index in op.inputs if index in makers})),
            )
        )
        makers |= dict.fromkeys(op.outputs, len(layers) - 1)
    return tuple(layers)


def _kind(op: Operator, result: Tensor) -> str:
    if op.name in ("LceBconv2d", "LceQuantize", "LceBMaxPool2d"):
        return BINARY
    return INT8 if result.dtype in ("int8", "uint8", "int16") else FLOAT


def _real_shape(file: TfliteFile, op: Operator, result: Tensor) -> tuple[int, ...]:
    """With channels where LCE's operators count words of 32."""
    if op.name == "LceQuantize":
        return file.tensors[op.inputs[0]].shape
    if op.name == "LceBconv2d" and result.dtype == "int32" and len(result.shape) == _RANK:
        return (*result.shape[:3], file.tensors[op.inputs[1]].shape[0])
    return result.shape


def _kernel(file: TfliteFile, op: Operator) -> tuple[int, int] | None:
    if op.name not in ("LceBconv2d", "CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV"):
        return None
    _, height, width, _ = file.tensors[op.inputs[1]].shape
    return height, width


def _work(file: TfliteFile, op: Operator, tensors: Sequence[Tensor], counted: set[int]) -> Work:
    """Of one operator; buffers in ``counted`` belong to another, its own are added."""
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
    return Work(binary, real, binary_weights, real_weights)


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
