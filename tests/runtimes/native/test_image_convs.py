"""The convolution before one of integers: computed along with it, where its result never has to be there."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from delegate_runs import Array, invoke, open_interpreter, run_delegate
from hypothesis import given, settings
from hypothesis import strategies as st
from integer_convs import IntegerConv, assert_same, check, taken
from lce_models import GraphBuilder, run_lce

pytest.importorskip("larq_compute_engine")


@dataclass(frozen=True)
class ImageConv:
    """CONV_2D of an image, and an IntegerConv behind it."""

    channels_in: int = 3
    size: tuple[int, int] = (18, 21)
    batch: int = 1
    kernel: tuple[int, int] = (3, 3)
    stride: tuple[int, int] = (2, 2)
    dilation: tuple[int, int] = (1, 1)
    padding: str = "SAME"
    activation: str = "NONE"
    largest: int = 400
    #: What the weights and biases, whole numbers, are multiplied with.
    weight_scale: float = 2.0**-6
    bias_scale: float = 2.0**-12
    then: IntegerConv = field(default_factory=IntegerConv)

    def conv(self, graph: GraphBuilder, x: int) -> int:
        rng = np.random.default_rng(self.then.seed + 2)
        channels_out = self.then.channels_in
        whole = rng.integers(-self.largest, self.largest + 1, (channels_out, *self.kernel, graph.shape(x)[3]))
        bias = rng.integers(-9999, 10000, channels_out)
        return graph.conv2d(
            x,
            (whole * self.weight_scale).astype(np.float32),
            (bias * self.bias_scale).astype(np.float32),
            stride=self.stride,
            dilation=self.dilation,
            padding=self.padding,
            activation=self.activation,
        )

    def behind(self, graph: GraphBuilder, x: int) -> list[int]:
        """What comes out behind the convolution's result."""
        y = self.then.conv(graph, self.then.words(graph, x))
        return [y, self.then.binary(graph, y)]

    def input(self, graph: GraphBuilder) -> int:
        return graph.input((self.batch, *self.size, self.channels_in))

    def model(self) -> bytes:
        graph = GraphBuilder()
        return graph.finish(*self.behind(graph, self.conv(graph, self.input(graph))))

    def inputs(self) -> list[Array]:
        """Pixels as an exact net takes them."""
        pixels = np.random.default_rng(self.then.seed).integers(0, 256, (self.batch, *self.size, self.channels_in))
        return [((pixels - 128) / 64).astype(np.float32)]


def window(draw: Any) -> dict[str, Any]:
    kernel, stride = draw(st.tuples(*[st.integers(1, 4)] * 2)), draw(st.tuples(*[st.integers(1, 3)] * 2))
    dilation = draw(st.tuples(*[st.integers(1, 3)] * 2)) if stride == (1, 1) else (1, 1)  # as TensorFlow has it
    return {"kernel": kernel, "stride": stride, "dilation": dilation}


@st.composite
def image_convs(draw: Any) -> ImageConv:
    first, second = window(draw), window(draw)
    padding = draw(st.sampled_from(["SAME", "VALID"]))
    least = [(k - 1) * d + 1 if padding == "VALID" else 1
             for k, d in zip(first["kernel"], first["dilation"], strict=True)]  # fmt: skip
    return ImageConv(
        draw(st.integers(1, 9)),
        tuple(draw(st.integers(size, size + 30)) for size in least),
        draw(st.integers(1, 3)),
        **first,
        padding=padding,
        then=IntegerConv(
            draw(st.integers(1, 40)),
            draw(st.integers(1, 20)),
            **second,
            prelu=draw(st.booleans()),
            seed=draw(st.integers(0, 99)),
        ),
    )


@given(image_convs())
@settings(max_examples=150, deadline=None, derandomize=True, database=None)
def test_equal_to_the_bit(case: ImageConv) -> None:
    check(case.model(), case.inputs(), 2)


@pytest.mark.parametrize("size", [(1, 1), (1, 700), (700, 1), (2, 257), (131, 128), (192, 193)])
def test_long_and_large_images(size: tuple[int, int]) -> None:
    case = ImageConv(size=size, batch=2)
    check(case.model(), case.inputs(), 2)


@pytest.mark.parametrize(
    "case",
    [
        ImageConv(size=(1, 2), stride=(1, 1), kernel=(2, 2), dilation=(5, 7)),  # no tap lies inside
        ImageConv(size=(3, 40), stride=(1, 1), kernel=(4, 5), dilation=(9, 16)),
        ImageConv(size=(40, 40), kernel=(1, 1), stride=(7, 11)),
        ImageConv(size=(9, 200), stride=(1, 1), then=IntegerConv(64, 7, kernel=(1, 1), stride=(3, 3))),
        ImageConv(size=(9, 9), padding="VALID", then=IntegerConv(kernel=(2, 2), padding="VALID", stride=(3, 3))),
        ImageConv(largest=0),
        ImageConv(bias_scale=0.0),
    ],
    ids=str,
)
def test_odd_windows(case: ImageConv) -> None:
    check(case.model(), case.inputs(), 2)


@pytest.mark.parametrize(
    ("case", "count"),
    [
        (ImageConv(weight_scale=1 / 3), 1),
        (ImageConv(bias_scale=1 / 3), 1),
        (ImageConv(bias_scale=2.0**-24), 1),
        (ImageConv(largest=10**4), 1),
        (ImageConv(activation="RELU6"), 1),
        (ImageConv(kernel=(1, 67), size=(5, 150)), 1),
        (ImageConv(then=IntegerConv(weight_scale=1 / 3)), 0),
    ],
    ids=str,
)
def test_what_might_round_is_left(case: ImageConv, count: int) -> None:
    """Then everything is as it is without it."""
    assert taken(case.model(), case.inputs()) == count
    got, expected = run_delegate(case.model(), case.inputs()), run_lce(case.model(), case.inputs())
    np.testing.assert_allclose(got[0], expected[0], rtol=1e-5, atol=1e-5 * float(np.abs(expected[0]).max()))


def test_sums_up_to_24_bits_with_their_bias() -> None:
    """The largest sum that float32 holds for some power of two of the pixels, and one more."""
    case = ImageConv(size=(4, 4), batch=1, channels_in=2, then=IntegerConv(1, 3, high=32767.0, low=-32767.0))
    case = replace(case, then=replace(case.then, weight_scale=2.0**-8, kernel=(1, 1), prelu=False))
    largest = 2**24 - 2 * 255 * 32767
    for bias, convolutions in ((largest, 2), (largest + 1, 1)):
        graph = GraphBuilder()
        y = graph.conv2d(case.input(graph), np.full((1, 1, 1, 2), 32767 / 2**10), np.full(1, bias / 2**16))
        model = graph.finish(*case.behind(graph, y))
        check(model, [np.full((1, 4, 4, 2), 255 / 64, np.float32)], convolutions)


@pytest.mark.parametrize("reader", ["inside", "outside", "output"])
def test_another_reader_of_its_result(reader: str) -> None:
    """Then the tensor has to be there, and the convolution behind it is still taken."""
    case = ImageConv()
    graph = GraphBuilder()
    y = case.conv(graph, case.input(graph))
    also = {"inside": graph.quantize, "outside": lambda y: graph.unary("FLOOR", y), "output": lambda y: y}[reader](y)
    check(graph.finish(*case.behind(graph, y), also), case.inputs(), 1)


def test_two_convolutions_of_its_result() -> None:
    case = ImageConv()
    graph = GraphBuilder()
    y = case.conv(graph, case.input(graph))
    other = replace(case, then=replace(case.then, prelu=False, high=9.0, seed=5))
    check(graph.finish(*case.behind(graph, y), *other.behind(graph, y)), case.inputs(), 2)


def test_two_of_one_image() -> None:
    """Which goes into the region as it is too, and in a batch."""
    case = ImageConv(batch=3)
    graph = GraphBuilder()
    x = case.input(graph)
    other = replace(case, stride=(1, 1), then=replace(case.then, prelu=False, channels_in=5, seed=5))
    outputs = [output for each in (case, other) for output in each.behind(graph, each.conv(graph, x))]
    check(graph.finish(*outputs, graph.quantize(x)), case.inputs(), 4)


def test_behind_another() -> None:
    """Of two in a row the first is left, whose result is then the second's image."""
    case = ImageConv(largest=3)
    graph = GraphBuilder()
    y = replace(case, then=replace(case.then, channels_in=4, seed=7)).conv(graph, case.input(graph))
    model = graph.finish(*case.behind(graph, case.conv(graph, y)))
    check(model, [np.round(values) for values in case.inputs()], 2)


def test_behind_what_the_delegate_computes() -> None:
    case = ImageConv()
    graph = GraphBuilder()
    x = graph.binary("ADD", case.input(graph), graph.constant(np.float32(0.5)))
    check(graph.finish(*case.behind(graph, case.conv(graph, x))), case.inputs(), 1)


@pytest.mark.parametrize("absent", [[], [-1]])
def test_without_a_bias(absent: list[int]) -> None:
    """As LCE's interpreter computes it with a bias of zeros."""
    case = ImageConv(bias_scale=0.0)
    graph = GraphBuilder()
    y = case.conv(graph, case.input(graph))
    graph.operators[-1].inputs = np.asarray([*graph.operators[-1].inputs[:2], *absent], np.int32)
    model = graph.finish(*case.behind(graph, y))
    assert taken(model, case.inputs()) == 2
    assert_same(run_delegate(model, case.inputs()), run_lce(case.model(), case.inputs()))


def test_images_of_other_floats() -> None:
    """Sums are rounded, on every kernel alike; next to ties they differ from the runtime's."""
    case = ImageConv(batch=2)
    inputs = [np.random.default_rng(1).uniform(-2, 2, values.shape).astype(np.float32) for values in case.inputs()]
    got = run_delegate(case.model(), inputs)
    for options in ({"kernel": "scalar"}, {"threads": 2}):
        assert_same(run_delegate(case.model(), inputs, **options), got)
    assert np.mean(got[0] == run_lce(case.model(), inputs)[0]) > 0.99


def test_what_is_not_a_number() -> None:
    """No kernel and no thread disagrees about what NaN and infinities give."""
    case = ImageConv(batch=2)
    (values,) = case.inputs()
    flat = values.reshape(-1)
    flat[::71], flat[1::91], flat[2::101] = np.nan, np.inf, -np.inf
    expected = run_delegate(case.model(), [values])
    assert np.isfinite(expected[0]).all()
    for options in ({"kernel": "scalar"}, {"threads": 2}):
        assert_same(run_delegate(case.model(), [values], **options), expected)


def test_resized_inputs() -> None:
    case = ImageConv()
    interpreter = open_interpreter(case.model(), 2)
    index = interpreter.get_input_details()[0]["index"]
    for batch, size in ((1, (60, 63)), (2, (4, 5)), (1, (18, 21)), (3, (2, 90)), (1, (18, 21))):
        other = replace(case, batch=batch, size=size)
        interpreter.resize_tensor_input(index, (batch, *size, case.channels_in))
        interpreter.allocate_tensors()
        assert_same(invoke(interpreter, other.inputs()), run_lce(other.model(), other.inputs()))
