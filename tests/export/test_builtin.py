"""Built-in-op ``.tflite`` files: the network's own bits in float32 and with int8 signs, near them when rounded."""

from __future__ import annotations

import json
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from export_helpers import (
    SMALL,
    TINY,
    TINY_METADATA,
    FloatArray,
    part_to_keras,
    random_network,
    randomise,
    run_litert,
    run_torch,
    tiny_checkpoint,
)
from helpers import run
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from bihrnet_edge.calibration.ranges import Ranges, weights_sha256, write_ranges
from bihrnet_edge.calibration.scales import Grid
from bihrnet_edge.calibration.verification import synthetic_images
from bihrnet_edge.errors import UserError
from bihrnet_edge.export.builtin import export_builtin
from bihrnet_edge.export.builtin_form import BuiltinForm, BuiltinPrecision
from bihrnet_edge.export.builtin_model import BuiltinBuilder, Int8BuiltinBuilder
from bihrnet_edge.export.builtin_storage import store_float16, store_signs
from bihrnet_edge.export.calibrate import Activations, observe_activations
from bihrnet_edge.export.lce import convert_to_lce
from bihrnet_edge.export.tensorflow_env import tf_keras
from bihrnet_edge.export.tflite_graph import builtin_precision, count_ops
from bihrnet_edge.export.weights import WeightStore
from bihrnet_edge.model.binary import BinaryConv2d, hard_sign, pad_same
from bihrnet_edge.model.blocks import Unit
from bihrnet_edge.model.checkpoint import Checkpoint, save_checkpoint
from bihrnet_edge.model.exact import make_exact
from bihrnet_edge.runtimes.base import Images
from bihrnet_edge.runtimes.inspect import inspect_artifact
from bihrnet_edge.runtimes.tflite_file import parse_tflite, read_tflite

BINARY = sum(isinstance(module, BinaryConv2d) for module in random_network(TINY).modules())
UNITS = st.sampled_from([(3, 1, 1), (3, 2, 1), (3, 1, 2), (1, 1, 1)])  # kernel, stride, dilation


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return make_exact(tiny_checkpoint())


@pytest.fixture(scope="module")
def images(checkpoint: Checkpoint) -> Images:
    return synthetic_images(checkpoint.metadata, 4)


@pytest.fixture(scope="module")
def plain(checkpoint: Checkpoint) -> bytes:
    return export_builtin(checkpoint, BuiltinForm())


@settings(max_examples=8, deadline=None, derandomize=True)
@given(
    kernel_stride_dilation=UNITS,
    exponent=st.sampled_from([0, -40, 20]),
    seed=st.integers(0, 2**16),
)
def test_signs_are_equal_to_the_bit(kernel_stride_dilation: tuple[int, int, int], exponent: int, seed: int) -> None:
    """Values are at their thresholds, or the next floats beside; outputs are the integer accumulators."""
    kernel, stride, dilation = kernel_stride_dilation
    rng = np.random.default_rng(seed)
    unit = counting_unit(kernel, stride, dilation, rng)
    assert unit.sign is not None
    beta = (rng.standard_normal(32) * rng.integers(0, 2, 32) * 2.0**exponent).astype(np.float32)
    with torch.no_grad():
        unit.sign.beta.copy_(torch.from_numpy(beta))
    at = np.broadcast_to(beta, (1, 7, 6, 32))
    # Denormals aside, which some runtimes take for 0.
    below, above = (
        np.where(at == 0, sign * np.float32(2**-60), np.nextafter(at, sign * np.float32(np.inf))) for sign in (-1, 1)
    )
    x = np.choose(rng.integers(0, 5, at.shape), [at, below, above, at - 1, at + 1]).astype(np.float32)

    expected = accumulators(unit, x, stride, dilation)

    def make(builder: BuiltinBuilder, source: Any) -> Any:
        return builder.unit(source, "m", 32, kernel, stride=stride, dilation=dilation)

    data = convert_to_lce(part_to_keras(unit, (7, 6, 32), make, BuiltinBuilder))
    for xnnpack in (True, False):
        actual = run_litert(data, x, xnnpack=xnnpack)
        np.testing.assert_array_equal(np.rint(actual), expected)
        np.testing.assert_allclose(actual, np.rint(actual), atol=1e-2)


@settings(max_examples=8, deadline=None, derandomize=True)
@given(kernel_stride_dilation=UNITS, seed=st.integers(0, 2**16))
def test_int8_signs_are_equal_to_the_bit(kernel_stride_dilation: tuple[int, int, int], seed: int) -> None:
    """Values are bytes beside their thresholds, or at those that are 0; outputs are half the integer accumulators."""
    kernel, stride, dilation = kernel_stride_dilation
    rng = np.random.default_rng(seed)
    scale, zero_point = 2.0 ** rng.integers(-6, 3), int(rng.integers(-128, 128))
    unit = counting_unit(kernel, stride, dilation, rng)
    assert unit.sign is not None
    codes = rng.integers(-127, 128, 32) - zero_point
    between = np.where(codes == 0, 0.0, codes - 0.5 + rng.uniform(-0.45, 0.45, 32))
    with torch.no_grad():
        unit.sign.beta.copy_(torch.from_numpy((between * scale).astype(np.float32)))
    near = codes + rng.integers(-1, 2, (1, 7, 6, 32))
    anywhere = rng.integers(-128, 128, near.shape) - zero_point
    x = (np.where(rng.random(near.shape) < 0.5, near, anywhere) * scale).astype(np.float32)
    expected = accumulators(unit, x, stride, dilation)

    def make(builder: Int8BuiltinBuilder, source: Any) -> Any:
        x = builder.emit("x", "input", source, [])
        return builder.unit(x, "m", 32, kernel, stride=stride, dilation=dilation)

    grids = {"x": Grid(scale, zero_point), "m.bn": Grid(2.0), "m.act": Grid(2.0)}
    data = convert_to_lce(part_to_keras(unit, (7, 6, 32), make, partial(Int8BuiltinBuilder, grids=grids)))
    file = parse_tflite(data, Path("unit"))
    assert builtin_precision(file) == "int8"
    (conv,) = (op for op in file.operators if op.name == "CONV_2D")
    stored = file.tensors[conv.inputs[1]].data
    assert stored is not None
    assert set(np.unique(stored)) == {-127, 127}
    for xnnpack in (True, False):
        np.testing.assert_array_equal(run_litert(data, x, xnnpack=xnnpack), np.clip(expected, -256, 254))


def counting_unit(kernel: int, stride: int, dilation: int, rng: np.random.Generator) -> Unit:
    """A unit of random signs that gives its accumulators."""
    unit = Unit(32, 32, kernel, binary=True, stride=stride, dilation=dilation).eval()
    with torch.no_grad():
        unit.conv.weight.copy_(torch.from_numpy(rng.integers(-1, 2, tuple(unit.conv.weight.shape))))
        unit.bn.weight.copy_(1.0 / unit.conv.weight.abs().mean(dim=(1, 2, 3)))
        unit.act.weight.fill_(1.0)
    return unit


def accumulators(unit: Unit, x: FloatArray, stride: int, dilation: int) -> FloatArray:
    """The sums of +-1, by torch in float64: sign(0) is 1, and what is padded is 1."""
    assert unit.sign is not None
    kernel = hard_sign(unit.conv.weight).double()
    signs = hard_sign(torch.from_numpy(x).permute(0, 3, 1, 2).double() - unit.sign.beta[:, None, None].double())
    padded = pad_same(signs, kernel.shape[-1], stride, dilation, 1.0)
    sums: FloatArray = nn.functional.conv2d(padded, kernel, None, stride, 0, dilation).permute(0, 2, 3, 1).numpy()
    return sums


@pytest.mark.parametrize("precision", ["float32", "dynamic"])
def test_whole_network_is_torchs(
    precision: BuiltinPrecision, checkpoint: Checkpoint, plain: bytes, images: Images
) -> None:
    data = plain if precision == "float32" else store_signs(plain)
    file = parse_tflite(data, Path(precision))
    assert not file.custom_ops
    assert builtin_precision(file) == precision
    ops = file.histogram()
    assert (ops["CONV_2D"], ops["RELU_N1_TO_1"], ops["PRELU"]) == (BINARY + 3, BINARY, BINARY + 2)
    kernels = [file.tensors[op.inputs[1]] for op in file.operators if op.name == "CONV_2D"]
    if precision == "dynamic":
        assert Counter(kernel.dtype for kernel in kernels) == {"int8": BINARY, "float32": 3}
        assert all(set(np.unique(k.data)) == {-1, 1} for k in kernels if k.dtype == "int8")
        assert len(data) < 0.4 * len(plain)
    expected = run_torch(checkpoint.build(), images)
    for xnnpack in (True, False):
        assert np.abs(run_litert(data, images, xnnpack=xnnpack) - expected).max() <= 1e-5 * np.ptp(expected)


def test_bytes_are_the_same_again(checkpoint: Checkpoint, plain: bytes) -> None:
    assert export_builtin(checkpoint, BuiltinForm()) == plain


def test_float16_rounds_the_kernel_of_a_unit() -> None:
    unit = Unit(32, 32, 3, binary=True).eval()
    randomise(unit, seed=3)
    x = np.random.default_rng(4).standard_normal((1, 8, 8, 32), np.float32)
    builder = partial(BuiltinBuilder, half=True)
    data = store_float16(convert_to_lce(part_to_keras(unit, (8, 8, 32), lambda b, y: b.unit(y, "m", 32, 3), builder)))
    file = parse_tflite(data, Path("unit"))
    assert builtin_precision(file) == "float16"
    kernel, bias = (file.tensors[op.inputs[0]] for op in file.operators if op.name == "DEQUANTIZE")
    assert (kernel.dtype, kernel.shape, bias.dtype, bias.shape) == ("float16", (32, 3, 3, 32), "float16", (32,))
    assert unit.bn.running_var is not None
    scale = unit.bn.weight / torch.sqrt(unit.bn.running_var + unit.bn.eps)
    expected = (-2 * unit.conv.kernel() * scale[:, None, None, None]).permute(0, 2, 3, 1).detach().numpy()
    assert kernel.data is not None
    # Half of float16's last digit, and float32's rounding of the product before.
    np.testing.assert_allclose(kernel.data.reshape(kernel.shape).astype(np.float32), expected, rtol=2**-11 * 1.001)
    wanted = run_torch(unit, x)
    assert 1e-5 * np.ptp(wanted) < np.abs(run_litert(data, x) - wanted).max() < 2e-3 * np.ptp(wanted)


def test_float16_network(checkpoint: Checkpoint, images: Images) -> None:
    """Rounded as the unit above is, which flips a few signs."""
    data = export_builtin(checkpoint, BuiltinForm("float16"))
    file = parse_tflite(data, Path("float16"))
    assert not file.custom_ops
    assert (builtin_precision(file), file.histogram()["DEQUANTIZE"]) == ("float16", 2 * BINARY)
    expected = run_torch(checkpoint.build(), images)
    for xnnpack in (True, False):
        actual = run_litert(data, images, xnnpack=xnnpack)
        assert np.corrcoef(actual.ravel(), expected.ravel())[0, 1] > 0.99


def test_int8_by_the_command_line(checkpoint: Checkpoint, images: Images, dot_people: Path) -> None:
    """Exported, compared with torch, and taken by every command that takes artifacts."""
    model, ranges, out = dot_people / "tiny.pt", dot_people / "ranges.json", dot_people / "out"
    save_checkpoint(model, checkpoint)
    found = observe_activations(Activations(checkpoint), [images], "minmax")
    weights = weights_sha256(checkpoint.state)
    write_ranges(ranges, Ranges("tiny", weights, "minmax", 16, "p.json", "0" * 64, (), found))
    command = ["export", model, "--target", "tflite", "--tflite-precision", "int8", "--ranges", ranges, "--out", out]
    people = ["--check-annotations", dot_people / "people.json", "--check-images", dot_people / "images"]
    assert run(*command, *people, "--max-drop", 100) == 0
    report = json.loads((out / "tiny.export.json").read_text())
    artifact = report["artifacts"]["tflite"]
    assert (artifact["file"], artifact["form"]) == ("tiny.tflite", {"precision": "int8"})
    assert artifact["agreement"]["heatmap_correlation_median"] > 0.99
    assert set(report["metrics"]) == {"name", "torch", "tflite"}
    assert report["latency"]["median_ms"]["tflite"] > 0
    assert set(report["check"]["drops"]) == {"tflite"}

    made = out / "tiny.tflite"
    file = read_tflite(made)
    assert not file.custom_ops
    assert file.metadata == checkpoint.metadata
    ops = file.histogram()
    assert ops["QUANTIZE"] == ops["DEQUANTIZE"] == 1
    assert {file.tensors[op.outputs[0]].dtype for op in file.operators if op.name != "DEQUANTIZE"} == {"int8"}
    data = made.read_bytes()
    with_xnnpack, without = (run_litert(data, images, xnnpack=xnnpack).ravel() for xnnpack in (True, False))
    assert np.corrcoef(with_xnnpack, without)[0, 1] > 0.99

    of_file, of_checkpoint = inspect_artifact(made).work, inspect_artifact(model).work
    assert of_file is not None
    assert of_checkpoint is not None
    assert of_file.binary_macs == of_checkpoint.binary_macs
    assert of_file.binary_parameters == of_checkpoint.binary_parameters
    assert run("predict", made, dot_people / "images" / "0.png", "--out", out) == 0
    assert len(json.loads((out / "0.keypoints.json").read_text())["people"][0]["keypoints"]) == 5
    assert run("bench", made, "--runs", 2, "--rounds", 1, "--warmup", 0) == 0


@pytest.mark.parametrize("xnnpack", [True, False])
@pytest.mark.parametrize("zero_point", [-128, 5, 127])
def test_int8_comparison_of_every_byte_with_every_threshold(zero_point: int, xnnpack: bool) -> None:
    """Of thresholds past both ends, too."""
    scale, beyond = 0.37, 2
    thresholds = np.arange(-128 - beyond, 128 + beyond) - zero_point
    source = tf_keras.Input((1, 256, len(thresholds)), batch_size=1)
    beta = torch.from_numpy(((thresholds - 0.3) * scale).astype(np.float32))
    builder = Int8BuiltinBuilder(SMALL, WeightStore({"m.beta": beta}), {"bytes": Grid(scale, zero_point)})
    model = tf_keras.Model(source, builder.threshold(builder.emit("bytes", "input", source, []), "m"))
    values = np.arange(-128, 128) - zero_point
    x: FloatArray = np.repeat((values * scale).astype(np.float32)[None, None, :, None], len(thresholds), axis=3)
    y = run_litert(convert_to_lce(model), x, xnnpack=xnnpack)[0, 0]
    np.testing.assert_allclose(y, np.where(values[:, None] < thresholds, builder.one, 0.0), rtol=1e-5)


@pytest.mark.parametrize("xnnpack", [True, False])
@pytest.mark.parametrize("steepest", [1.0, 1.5])
def test_int8_prelu_of_every_byte(steepest: float, xnnpack: bool) -> None:
    """The nearest byte to torch's PReLU; a slope above 1 takes PRELU, whose slopes have one scale for all channels."""
    scale, zero_point = 0.25, 3
    slopes = np.linspace(-3.0, steepest, 33).astype(np.float32)
    module = nn.PReLU(33)
    with torch.no_grad():
        module.weight.copy_(torch.from_numpy(slopes))
    grids = {name: Grid(scale, zero_point) for name in ("bytes", "m")}
    data = convert_to_lce(
        part_to_keras(
            module,
            (1, 256, 33),
            lambda builder, source: builder.prelu(builder.emit("bytes", "input", source, []), "m"),
            partial(Int8BuiltinBuilder, grids=grids),
        )
    )
    assert ("PRELU" in count_ops(data)) == (steepest > 1)
    x: FloatArray = np.tile(((np.arange(-128, 128) - zero_point) * scale).astype(np.float32)[:, None], (1, 1, 1, 33))
    expected = np.clip(run_torch(module, x) / scale, -128 - zero_point, 127 - zero_point)
    of_slopes = 131 * 3.0 / 127 / 2 if steepest > 1 else 0.0
    assert np.abs(run_litert(data, x, xnnpack=xnnpack) / scale - expected).max() <= 0.501 + of_slopes


def test_real_valued_twin() -> None:
    module = Unit(32, 32, 3, binary=False).eval()
    randomise(module, seed=5)
    x = np.random.default_rng(6).standard_normal((1, 8, 8, 32), np.float32)

    def make(builder: BuiltinBuilder, source: Any) -> Any:
        builder.config = TINY.twin()
        return builder.unit(source, "m", 32, 3)

    expected = run_torch(module, x)
    data = convert_to_lce(part_to_keras(module, (8, 8, 32), make, BuiltinBuilder))
    assert count_ops(data) == {"CONV_2D": 1, "PRELU": 1}
    assert np.abs(run_litert(data, x) - expected).max() <= 1e-5 * np.ptp(expected)
    checkpoint = Checkpoint(TINY_METADATA, TINY.twin(), {})
    with pytest.raises(UserError, match=r"tiny is real-valued.*choose --tflite-precision float32 or float16"):
        export_builtin(checkpoint, BuiltinForm("dynamic"))
