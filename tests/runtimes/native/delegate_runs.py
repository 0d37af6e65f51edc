"""Running models in the native delegate, and what they must give, in NumPy."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lce_models import ACTIVATION, PADDING, output_size, unpack_signs
from numpy.typing import NDArray

from bihrnet_edge.runtimes import delegate
from bihrnet_edge.runtimes.tflite_file import flex_options, parse_tflite

Array = NDArray[Any]


def open_interpreter(model: bytes, threads: int = 1, **options: Any) -> Any:
    """An interpreter of LiteRT with the delegate; ``options`` as :func:`bihrnet_edge.runtimes.delegate.load` has."""
    from ai_edge_litert.interpreter import Interpreter

    loaded, _ = delegate.load(threads, **options)
    interpreter = Interpreter(model_content=model, num_threads=threads, experimental_delegates=[loaded])
    interpreter.allocate_tensors()
    return interpreter


def invoke(interpreter: Any, inputs: Sequence[Array]) -> list[Array]:
    """The outputs for these inputs, in the graph's order."""
    for detail, value in zip(interpreter.get_input_details(), inputs, strict=True):
        interpreter.set_tensor(detail["index"], value)
    interpreter.invoke()
    return [interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()]


def run_delegate(model: bytes, inputs: Sequence[Array], threads: int = 1, **options: Any) -> list[Array]:
    """The outputs of one inference; an operator that the delegate leaves is an error, as only it has LCE's."""
    return invoke(open_interpreter(model, threads, **options), inputs)


def profile_of(model: bytes, inputs: Sequence[Array]) -> dict[str, Any]:
    """What the delegate writes of one inference."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "profile.json"
        run_delegate(model, inputs, profile=path)
        values: dict[str, Any] = json.loads(path.read_text())
    return values


def assert_close(got: Array, expected: Array, *, range_: float = 0.0) -> None:
    """Floats to a millionth of the output's range, or of ``range_`` where that is larger; all else exactly."""
    assert got.dtype == expected.dtype
    assert got.shape == expected.shape
    if expected.dtype == np.float32:
        largest = max(range_, float(np.ptp(expected)), float(np.abs(expected).max()))
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-6 * largest)
    else:
        np.testing.assert_array_equal(got, expected)


def binary_convolution(model: bytes, signs: Array) -> Array:
    """What the one LceBconv2d of a model gives for signs (N, H, W, C) of +1 and -1, from the file alone.

    Zero padding counts 0, one padding +1. Float32 outputs come as such, int8 ones before they are quantized,
    bitpacked ones as +1 and -1.
    """
    file = parse_tflite(model, Path("model"))
    (operator,) = (op for op in file.operators if op.name == "LceBconv2d")
    options = flex_options(operator)
    tensors = [None if index < 0 else file.tensors[index] for index in operator.inputs]
    output = file.tensors[operator.outputs[0]]
    assert tensors[1] is not None
    channels_out, rows, columns, words = tensors[1].shape
    groups = -(-options["channels_in"] // 32) // words
    depth = options["channels_in"] // groups
    kernel = unpack_signs(tensors[1].data.reshape(tensors[1].shape), depth)  # type: ignore[union-attr]
    stride = options["stride_height"], options["stride_width"]
    dilation = options["dilation_height_factor"], options["dilation_width_factor"]
    padding = "SAME" if options["padding"] == PADDING["SAME"] else "VALID"
    count, height, width, _ = signs.shape
    sizes = [output_size(n, k, s, d, padding) for n, k, s, d in
             zip((height, width), (rows, columns), stride, dilation, strict=True)]  # fmt: skip
    if padding == "SAME":
        total = [max(0, (o - 1) * s + (k - 1) * d + 1 - n) for n, k, s, d, o in
                 zip((height, width), (rows, columns), stride, dilation, sizes, strict=True)]  # fmt: skip
        around = [(0, 0), *((n // 2, n - n // 2) for n in total), (0, 0)]
        signs = np.pad(signs, around, constant_values=float(options["pad_values"]))
    sums = np.zeros((count, *sizes, channels_out), np.float32)  # whole numbers, exact in any order
    per_group = channels_out // groups
    for y in range(rows):
        for x in range(columns):
            top, left = y * dilation[0], x * dilation[1]
            part = signs[
                :, top : top + sizes[0] * stride[0] : stride[0], left : left + sizes[1] * stride[1] : stride[1]
            ]
            for group in range(groups):
                outputs = slice(group * per_group, (group + 1) * per_group)
                inputs = part[..., group * depth : (group + 1) * depth]
                sums[..., outputs] += inputs @ kernel[outputs, y, x].T
    bits = rows * columns * depth
    if output.dtype == "int32":
        thresholds = tensors[4].data  # type: ignore[union-attr]
        return np.where((bits - sums) / 2 > thresholds, -1.0, 1.0)
    name = next(name for name, code in ACTIVATION.items() if code == options["fused_activation_function"])
    low, high = {"NONE": (-np.inf, np.inf), "RELU": (0, np.inf), "RELU_N1_TO_1": (-1, 1), "RELU6": (0, 6)}[name]
    return sums.clip(low, high) * tensors[2].data + tensors[3].data  # type: ignore[union-attr]
