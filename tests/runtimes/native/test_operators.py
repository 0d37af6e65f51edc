"""Each of LCE's operators against LCE's interpreter and against NumPy, over shapes and attributes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from delegate_runs import assert_close, binary_convolution, run_delegate
from hypothesis import given, settings
from hypothesis import strategies as st
from lce_models import Bconv, GraphBuilder, pack_signs, random_inputs, run_lce, unpack_signs, words

pytest.importorskip("larq_compute_engine")

CHANNELS = st.integers(1, 70)
ACTIVATIONS = st.sampled_from(["NONE", "RELU", "RELU_N1_TO_1", "RELU6"])
PADDINGS = st.sampled_from(["SAME", "VALID"])


def property_test(examples: int) -> Any:
    """Every run sees the same examples, so that CI is not a lottery."""
    return settings(max_examples=examples, deadline=None, derandomize=True, database=None)


@st.composite
def bconvs(draw: Any, **fixed: Any) -> Bconv:
    """Any LceBconv2d whose window fits its image."""
    kernel, stride = draw(st.tuples(st.integers(1, 5), st.integers(1, 5))), draw(st.tuples(*[st.integers(1, 2)] * 2))
    dilation = draw(st.tuples(*[st.integers(1, 3)] * 2))
    padding = fixed.pop("padding", None) or draw(PADDINGS)
    least = [(k - 1) * d + 1 if padding == "VALID" else 1 for k, d in zip(kernel, dilation, strict=True)]
    height, width = (draw(st.integers(size, size + 12)) for size in least)
    options = {
        "channels_in": draw(CHANNELS), "channels_out": draw(CHANNELS), "batch": draw(st.integers(1, 3)),
        "activation": draw(ACTIVATIONS), "seed": draw(st.integers(0, 99)), "pad_values": 1,
    } | fixed  # fmt: skip
    return Bconv(
        height=height, width=width, kernel=kernel, stride=stride, dilation=dilation, padding=padding, **options
    )


def check(case: Bconv, *, lce: bool = True) -> None:
    """The delegate's kernels give what LCE and NumPy give, and the same bits as one another."""
    model = case.model()
    inputs = random_inputs(model, case.seed)
    (got,) = run_delegate(model, inputs)
    (scalar,) = run_delegate(model, inputs, kernel="scalar")
    assert got.tobytes() == scalar.tobytes()
    if lce:
        (expected,) = run_lce(model, inputs)
        assert_close(got, expected)
    if case.source == "int32":
        signs = unpack_signs(inputs[0], case.channels_in)
    else:
        signs = np.where(inputs[0] < (4 if case.source == "int8" else 0), -1.0, 1.0)
    formula = binary_convolution(model, signs)
    if case.output == "int32":
        formula = formula.astype(np.float32) if case.dequantize else pack_signs(formula)
    elif case.output == "int8":
        real = formula / case.scale + case.zero_point
        # rounding: a value within float32's reach of a tie may go either way
        close = np.abs(got - real.clip(-128, 127)) <= 0.5 + 1e-4
        assert close.all()
        return
    # LCE scales what is counted, before the bias and a constant of this size: one rounds where the other does not.
    assert_close(got, formula, range_=4 * math.sqrt(math.prod(case.kernel) * case.channels_in))


@given(bconvs(output="float32"))
@property_test(300)
def test_bconv_to_float(case: Bconv) -> None:
    check(case)


@given(bconvs(output="int32", activation="NONE"), st.booleans())
@property_test(200)
def test_bconv_to_bits(case: Bconv, dequantize: bool) -> None:
    check(Bconv(**{**vars(case), "dequantize": dequantize}))


@given(bconvs(output="int8"), st.sampled_from(["float32", "int8"]))
@property_test(200)
def test_bconv_to_int8(case: Bconv, source: str) -> None:
    check(Bconv(**{**vars(case), "source": source}))


@given(bconvs(source="int32", channels_in=64), st.sampled_from(["float32", "int32"]))
@property_test(80)
def test_bconv_of_bits(case: Bconv, output: str) -> None:
    """The graph's input is bitpacked: nothing stands before the convolution."""
    activation = "NONE" if output == "int32" else case.activation
    check(Bconv(**{**vars(case), "output": output, "activation": activation}))


@given(bconvs(output="float32", padding="SAME", pad_values=0, activation="NONE"))
@property_test(200)
def test_bconv_with_zero_padding(case: Bconv) -> None:
    """LCE's own kernel takes only an even number of channels; NumPy takes any."""
    check(case, lce=case.lce_can)


@given(bconvs(output="float32"), st.sampled_from([(64, 2), (96, 3), (128, 2), (128, 4)]), st.integers(1, 8))
@property_test(100)
def test_bconv_in_groups(case: Bconv, channels: tuple[int, int], quads: int) -> None:
    channels_in, groups = channels
    shape = {"channels_in": channels_in, "channels_out": 4 * quads * groups, "groups": groups}
    check(Bconv(**{**vars(case), **shape}))


@pytest.mark.parametrize(
    ("channels", "kernel"),
    [(63, (1, 1)), (252, (1, 1)), (2048, (3, 3)), (7281, (3, 3)), (65535, (1, 1)), (31, (21, 21))],
)
@pytest.mark.parametrize("same", [True, False], ids=["all alike", "all opposed"])
def test_bconv_at_the_limits_of_what_is_counted(channels: int, kernel: tuple[int, int], same: bool) -> None:
    """No bit differs, or every one does: up to 65535 of them, which is what an output may have."""
    graph = GraphBuilder()
    x = graph.input((1, kernel[0] + 1, kernel[1] + 2, channels))
    weights = np.full((5, *kernel, channels), 1.0 if same else -1.0)
    y = graph.bconv(graph.quantize(x), weights, channels, multiplier=np.ones(5), bias=np.zeros(5), padding="VALID")
    model = graph.finish(y)
    images = [np.ones(graph.shape(x), np.float32)]
    count = math.prod(kernel) * channels
    for backend in (None, "scalar"):
        (got,) = run_delegate(model, images, kernel=backend)
        np.testing.assert_array_equal(got, np.full(graph.shape(y), count if same else -count, np.float32))


@pytest.mark.parametrize("size", [(1, 1), (1, 400), (400, 1), (2, 257), (129, 3), (100, 90)])
@pytest.mark.parametrize("stride", [1, 2])
def test_bconv_of_long_and_large_images(size: tuple[int, int], stride: int) -> None:
    check(Bconv(channels_in=33, channels_out=9, height=size[0], width=size[1], stride=(stride, stride), batch=2))


@given(CHANNELS, st.tuples(*[st.integers(1, 11)] * 2), st.integers(1, 3), st.sampled_from(["float32", "int8"]))
@property_test(60)
def test_quantize(channels: int, size: tuple[int, int], batch: int, dtype: str) -> None:
    graph = GraphBuilder()
    options = {"scale": 0.5, "zero_point": -7} if dtype == "int8" else {}
    model = graph.finish(graph.quantize(graph.input((batch, *size, channels), dtype, **options)))
    inputs = random_inputs(model, channels)
    (got,) = run_delegate(model, inputs)
    assert_close(got, run_lce(model, inputs)[0])
    np.testing.assert_array_equal(got, pack_signs(inputs[0] - (-7.0 if dtype == "int8" else 0)))


@pytest.mark.parametrize("value", [0.0, -0.0, np.nan, -np.nan, np.inf, -np.inf, 1e-45, -1e-45])
def test_signs_of_what_is_hardly_a_number(value: float) -> None:
    """Zeros of both signs are +1, as in LCE; so is what is not a number. LCE also takes the tiniest numbers for 0."""
    graph = GraphBuilder()
    model = graph.finish(graph.quantize(graph.input((1, 3, 5, 40))))
    values = np.full((1, 3, 5, 40), value, np.float32)
    expected = pack_signs(values)
    if abs(value) != 1e-45:
        np.testing.assert_array_equal(run_lce(model, [values])[0], expected)
    for kernel in (None, "scalar"):
        np.testing.assert_array_equal(run_delegate(model, [values], kernel=kernel)[0], expected)


@given(CHANNELS, st.tuples(*[st.integers(1, 11)] * 2), st.integers(1, 3), st.sampled_from(["float32", "int8"]))
@property_test(60)
def test_dequantize(channels: int, size: tuple[int, int], batch: int, dtype: str) -> None:
    graph = GraphBuilder()
    options: dict[str, Any] = {"scale": 0.0625, "zero_point": 3} if dtype == "int8" else {}
    bits = graph.input((batch, *size, words(channels)), "int32")
    model = graph.finish(graph.dequantize(bits, channels, dtype, **options))
    inputs = random_inputs(model, channels)
    (got,) = run_delegate(model, inputs)
    assert_close(got, run_lce(model, inputs)[0])
    if dtype == "float32":
        np.testing.assert_array_equal(got, unpack_signs(inputs[0], channels))


@given(
    CHANNELS, st.tuples(*[st.integers(1, 4)] * 2), st.tuples(*[st.integers(1, 3)] * 2), PADDINGS,
    st.tuples(*[st.integers(0, 9)] * 2), st.integers(1, 3),
)  # fmt: skip
@property_test(120)
def test_max_pool(
    channels: int, window: tuple[int, int], stride: tuple[int, int], padding: str, more: tuple[int, int], batch: int
) -> None:
    graph = GraphBuilder()
    size = (window[0] + more[0], window[1] + more[1])
    x = graph.quantize(graph.input((batch, *size, channels)))
    pooled = graph.bmaxpool(x, window, stride, padding)
    model = graph.finish(graph.dequantize(pooled, channels))
    inputs = random_inputs(model, math.prod(size))
    (got,) = run_delegate(model, inputs)
    assert_close(got, run_lce(model, inputs)[0])
    assert got.tobytes() == run_delegate(model, inputs, kernel="scalar")[0].tobytes()
