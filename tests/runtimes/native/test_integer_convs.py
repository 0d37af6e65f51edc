"""Float convolutions of integers: to the bit in the delegate, or left to the runtime where they might round."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from delegate_runs import invoke, open_interpreter, run_delegate
from hypothesis import given, settings
from hypothesis import strategies as st
from integer_convs import IntegerConv, assert_same, check, taken
from lce_models import GraphBuilder, run_lce

pytest.importorskip("larq_compute_engine")

ACTIVATIONS = st.sampled_from(["NONE", "RELU", "RELU_N1_TO_1", "RELU6"])


@st.composite
def integer_convs(draw: Any) -> IntegerConv:
    kernel, stride = draw(st.tuples(*[st.integers(1, 4)] * 2)), draw(st.tuples(*[st.integers(1, 3)] * 2))
    dilation = draw(st.tuples(*[st.integers(1, 3)] * 2)) if stride == (1, 1) else (1, 1)  # as TensorFlow has it
    padding = draw(st.sampled_from(["SAME", "VALID"]))
    least = [(k - 1) * d + 1 if padding == "VALID" else 1 for k, d in zip(kernel, dilation, strict=True)]
    return IntegerConv(
        draw(st.integers(1, 70)),
        draw(st.integers(1, 70)),
        tuple(draw(st.integers(size, size + 14)) for size in least),
        draw(st.integers(1, 3)),
        kernel,
        stride,
        dilation,
        padding,
        draw(ACTIVATIONS),
        draw(st.sampled_from([-127.0, 0.0, -3.0])),
        draw(st.sampled_from([127.0, 4.0])),
        *draw(st.tuples(*[st.booleans()] * 3)),
        seed=draw(st.integers(0, 99)),
    )


@given(integer_convs())
@settings(max_examples=150, deadline=None, derandomize=True, database=None)
def test_equal_to_the_bit(case: IntegerConv) -> None:
    check(case.model(), case.inputs(), 1)


@pytest.mark.parametrize("size", [(1, 1), (1, 700), (700, 1), (2, 257), (65, 64)])
def test_long_and_large_images(size: tuple[int, int]) -> None:
    case = IntegerConv(size=size, batch=2)
    check(case.model(), case.inputs(), 1)


@pytest.mark.parametrize(
    "case",
    [
        IntegerConv(weight_scale=1 / 3),
        IntegerConv(bias_scale=1 / 3),
        IntegerConv(bias_scale=2.0**-20),
        IntegerConv(weight_scale=0.0, bias_scale=2.0**-120),
        IntegerConv(high=126.5),
        IntegerConv(high=40000.0),
        IntegerConv(high=32767.0),
        IntegerConv(low=5.0, high=-5.0),
        IntegerConv(low=-np.inf),
        IntegerConv(kernel=(1, 67)),
        IntegerConv(stride=(1, 1), dilation=(1, 40)),
    ],
    ids=str,
)
def test_what_might_round_or_takes_too_much_is_left(case: IntegerConv) -> None:
    model = case.model()
    inputs = case.inputs()
    assert taken(model, inputs) == 0
    got = run_delegate(model, inputs)
    expected = run_lce(model, inputs)
    np.testing.assert_allclose(got[0], expected[0], rtol=1e-5, atol=1e-5 * float(np.abs(expected[0]).max()))


@pytest.mark.parametrize(
    ("case", "count"),
    [
        (IntegerConv(weight_scale=0.0), 1),
        (IntegerConv(weight_scale=2.0**-90, bias_scale=2.0**-90), 1),
        (IntegerConv(weight_scale=2.0**40, bias_scale=2.0**40), 1),
        (IntegerConv(low=-1.0, high=1.0, weight_scale=819.0, bias_scale=1.0), 1),
        (IntegerConv(low=-1.0, high=1.0, weight_scale=821.0, bias_scale=1.0), 0),  # 40 times: beyond 16 bits
        (IntegerConv(low=3.0, high=3.0), 1),
    ],
    ids=str,
)
def test_at_the_limits(case: IntegerConv, count: int) -> None:
    check(case.model(), case.inputs(), count)


def test_sums_up_to_24_bits_with_their_bias() -> None:
    """The largest sum that float32 holds, and one more."""
    for bias, convolutions in ((float(2**24 - 127 * 4 * 32767), 1), (float(2**24 - 127 * 4 * 32767 + 2), 0)):
        graph = GraphBuilder()
        case = IntegerConv(channels_in=4, channels_out=1, prelu=False)
        words = case.words(graph, graph.input((1, 3, 3, 4)))
        y = graph.conv2d(words, np.full((1, 1, 1, 4), 32767.0), np.full(1, bias))
        model = graph.finish(y, case.binary(graph, y))
        inputs = [np.full((1, 3, 3, 4), 500, np.float32)]
        check(model, inputs, convolutions)


def test_another_reader_of_what_is_rounded() -> None:
    """Inside the region, outside, or the graph's own output: then the tensor has to be there."""
    case = IntegerConv()
    for reader in ("inside", "outside", "output"):
        graph = GraphBuilder()
        words = case.words(graph, graph.input((1, *case.size, case.channels_in)))
        y = case.conv(graph, words)
        if reader != "output":
            words = graph.quantize(words) if reader == "inside" else graph.unary("FLOOR", words)
        model = graph.finish(case.binary(graph, y), words)
        check(model, case.inputs(), 0)


def test_another_reader_of_its_input() -> None:
    """Two convolutions of one tensor, which goes into the region as it is too, and a batch of it."""
    case = IntegerConv(batch=3)
    graph = GraphBuilder()
    x = graph.input((3, *case.size, case.channels_in))
    ys = [each.conv(graph, each.words(graph, x)) for each in (case, replace(case, prelu=False, high=9.0, seed=5))]
    model = graph.finish(*(case.binary(graph, y) for y in ys), graph.quantize(x))
    check(model, case.inputs(), 2)


def test_one_behind_another() -> None:
    """What the delegate computes itself lies in planes: the second of two is left to the runtime."""
    first = IntegerConv(stride=(1, 1), channels_out=12)
    graph = GraphBuilder()
    y = first.conv(graph, first.words(graph, graph.input((1, *first.size, 12))))
    z = first.conv(graph, replace(first, low=-7.0, high=7.0).words(graph, y))
    model = graph.finish(first.binary(graph, y), first.binary(graph, z))
    check(model, first.inputs(), 1)


@pytest.mark.parametrize("absent", [[], [-1]])
def test_without_a_bias(absent: list[int]) -> None:
    """As LCE's interpreter computes it with a bias of zeros."""
    case = IntegerConv(bias_scale=0.0)
    graph = GraphBuilder()
    y = case.conv(graph, case.words(graph, graph.input((1, *case.size, case.channels_in))))
    graph.operators[-1].inputs = np.asarray([*graph.operators[-1].inputs[:2], *absent], np.int32)
    model = graph.finish(y, case.binary(graph, y))
    assert taken(model, case.inputs()) == 1
    assert_same(run_delegate(model, case.inputs()), run_lce(case.model(), case.inputs()))


def test_what_is_not_a_number_is_the_lower_bound() -> None:
    """And infinities are the bounds; no kernel and no thread disagrees."""
    case = IntegerConv()
    model = case.model()
    (values,) = case.inputs()
    flat = values.reshape(-1)
    flat[::7], flat[1::7], flat[2::7] = np.nan, np.inf, -np.inf
    expected = run_delegate(model, [values])
    assert np.isfinite(expected[0]).all()
    for options in ({"kernel": "scalar"}, {"threads": 2}):
        assert_same(run_delegate(model, [values], **options), expected)
    plain = replace(case, prelu=False)
    bounded = np.where(np.isnan(values), case.low, values).astype(np.float32)
    assert_same(run_delegate(plain.model(), [values]), run_lce(plain.model(), [bounded]))


def test_resized_inputs() -> None:
    case = IntegerConv()
    interpreter = open_interpreter(case.model(), 2)
    index = interpreter.get_input_details()[0]["index"]
    for batch, size in ((1, (30, 31)), (2, (4, 5)), (1, (9, 11)), (3, (2, 90)), (1, (9, 11))):
        other = replace(case, batch=batch, size=size)
        interpreter.resize_tensor_input(index, (batch, *size, case.channels_in))
        interpreter.allocate_tensors()
        assert_same(invoke(interpreter, other.inputs()), run_lce(other.model(), other.inputs()))
