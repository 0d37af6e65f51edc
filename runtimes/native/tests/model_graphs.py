"""The graphs of the native tests: small pieces of networks with binary convolutions, the weights random but fixed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from lce_models import Bconv, GraphBuilder
from numpy.typing import NDArray

Shape = tuple[int, int, int]  # batch, height, width
Build = Callable[[GraphBuilder, Shape], Sequence[int]]  # gives the graph's outputs


class Layers:
    """Random layers on a graph, each drawn from its own seed, so that another input size changes no weight."""

    def __init__(self, graph: GraphBuilder) -> None:
        self.graph = graph
        self.rng = np.random.default_rng(1)

    def values(self, *shape: int, low: float = -1.0, high: float = 1.0) -> NDArray[np.float32]:
        return self.rng.uniform(low, high, shape).astype(np.float32)

    def whole(self, *shape: int) -> NDArray[np.float32]:
        return self.rng.integers(-3, 3, shape, endpoint=True).astype(np.float32)

    def bconv(self, x: int, channels_in: int, channels_out: int, **kwargs: Any) -> int:
        """LceQuantize (of a float tensor) and LceBconv2d."""
        bits = x if self.graph.dtype(x) == "int32" else self.graph.quantize(x)
        seed = int(self.rng.integers(1 << 30))
        return Bconv(channels_in=channels_in, channels_out=channels_out, seed=seed, **kwargs).add(self.graph, bits)

    def prelu(self, x: int) -> int:
        return self.graph.binary("PRELU", x, self.graph.constant(self.values(1, 1, self.graph.shape(x)[3])))


def ms_block(graph: GraphBuilder, shape: Shape) -> Sequence[int]:
    """Two dilated convolutions of the same signs, concatenated onto the input; then a convolution with a PReLU."""
    layers = Layers(graph)
    x = graph.input((*shape, 32))
    bits = graph.quantize(graph.binary("ADD", x, graph.constant(layers.values(32))))
    near = layers.bconv(bits, 32, 16, dilation=(1, 1))
    far = layers.bconv(bits, 32, 16, dilation=(2, 2))
    y = graph.binary("ADD", graph.concat([near, far]), x)
    y = layers.prelu(graph.binary("ADD", y, graph.constant(layers.values(1, 1, 1, 32))))
    z = layers.bconv(y, 32, 32)
    return [graph.binary("ADD", layers.prelu(z), y)]


def two_regions(graph: GraphBuilder, shape: Shape) -> Sequence[int]:
    """Binary layers around real convolutions, which no delegate of ours takes."""
    layers = Layers(graph)
    x = graph.conv2d(graph.input((*shape, 3)), layers.values(16, 3, 3, 3), layers.values(16), activation="RELU")
    x = graph.binary("ADD", x, graph.constant(layers.values(16)))
    y = layers.prelu(layers.bconv(x, 16, 16))
    y = graph.binary("ADD", graph.conv2d(y, layers.values(16, 1, 1, 16)), x)
    z = layers.bconv(y, 16, 24, stride=(2, 2))
    return [graph.conv2d(z, layers.values(5, 3, 3, 24), layers.values(5), stride=(2, 2), padding="VALID"), z]


def integer_convs(graph: GraphBuilder, shape: Shape) -> Sequence[int]:
    """Convolutions of rounded tensors that integers compute, behind a real one, and one whose weights they cannot."""
    layers = Layers(graph)
    x = graph.conv2d(graph.input((*shape, 3)), layers.whole(9, 3, 3, 3), layers.whole(9))
    outputs = []
    for prelu, options in ((True, {"stride": (2, 2)}), (False, {"dilation": (1, 2), "activation": "RELU6"})):
        words = graph.unary("ROUND", layers.prelu(x) if prelu else x)
        words = graph.binary("MINIMUM", words, graph.constant(np.float32(7)))
        words = graph.binary("MAXIMUM", graph.constant(np.float32(-5)), words)
        y = graph.conv2d(words, layers.whole(21, 3, 2, 9) / 64, layers.whole(21) / 16, **options)
        outputs.append(layers.bconv(layers.prelu(y), 21, 6))
    words = graph.binary("MAXIMUM", graph.unary("ROUND", x), graph.constant(np.float32(-127)))
    words = graph.binary("MINIMUM", words, graph.constant(np.float32(127)))
    return [*outputs, graph.conv2d(words, layers.whole(4, 1, 1, 9) / 3)]


def image_convs(graph: GraphBuilder, shape: Shape) -> Sequence[int]:
    """Convolutions of integers behind one each of the same image, which is computed along with them."""
    layers = Layers(graph)
    x = graph.input((*shape, 3))
    outputs = []
    for channels, options in ((18, {"stride": (2, 2)}), (3, {"dilation": (2, 1)})):
        y = graph.conv2d(x, layers.whole(channels, 3, 2, 3), layers.whole(channels) / 16, **options)
        words = graph.unary("ROUND", layers.prelu(y) if channels == 18 else y)
        words = graph.binary("MAXIMUM", words, graph.constant(np.float32(-5)))
        words = graph.binary("MINIMUM", words, graph.constant(np.float32(7)))
        y = graph.conv2d(words, layers.whole(6, 2, 2, channels) / 64, layers.whole(6) / 16, stride=(2, 1))
        outputs.append(layers.bconv(y, 6, 4))
    return outputs


def group_mean(graph: GraphBuilder, shape: Shape) -> Sequence[int]:
    """The mean over groups of channels, by slices; added to a convolution."""
    layers = Layers(graph)
    x = graph.input((*shape, 24))
    groups = [graph.channels(x, start, start + 8) for start in (0, 8, 16)]
    total = graph.binary("ADD", graph.binary("ADD", groups[0], groups[1]), groups[2])
    mean = graph.binary("MUL", total, graph.constant(np.float32(1 / 3)))
    return [graph.binary("ADD", layers.bconv(x, 24, 8), mean)]


def tile(graph: GraphBuilder, shape: Shape) -> Sequence[int]:
    """A tensor repeated along the channels, added to a convolution of more channels."""
    layers = Layers(graph)
    x = graph.input((*shape, 12))
    y = layers.bconv(x, 12, 36)
    return [graph.binary("ADD", y, graph.concat([x, x, x]))]


def average_pool(graph: GraphBuilder, shape: Shape) -> Sequence[int]:
    """A residual block that halves the image."""
    layers = Layers(graph)
    x = graph.input((*shape, 20))
    shortcut = graph.pool("AVERAGE_POOL_2D", x, (2, 2), (2, 2))
    return [graph.binary("ADD", layers.bconv(x, 20, 20, stride=(2, 2)), shortcut)]


def average_pool_valid(graph: GraphBuilder, shape: Shape) -> Sequence[int]:
    """A pooling with overlap and a fused activation, whose signs go on."""
    x = Layers(graph).bconv(graph.input((*shape, 20)), 20, 7)
    return [graph.quantize(graph.pool("AVERAGE_POOL_2D", x, (3, 2), (1, 2), "VALID", "RELU6"))]


def upsample(graph: GraphBuilder, shape: Shape) -> Sequence[int]:
    """A convolution at half size, enlarged again and added."""
    layers = Layers(graph)
    x = graph.input((*shape, 9))
    _, height, width = shape
    y = layers.bconv(x, 9, 9, stride=(2, 2))
    return [graph.binary("ADD", graph.resize_nearest(y, (height, width)), x)]


def upsample_more(graph: GraphBuilder, shape: Shape) -> Sequence[int]:
    """The factors of a high-resolution net's fusions, signs of enlarged images among them."""
    layers = Layers(graph)
    x = layers.bconv(graph.input((*shape, 6)), 6, 6)
    _, height, width = shape
    enlarged = [graph.resize_nearest(x, (height * factor, width * factor)) for factor in (1, 2, 3, 4, 8)]
    return [*enlarged[1:4], graph.quantize(enlarged[4]), layers.bconv(enlarged[0], 6, 4)]


def upsample_half_pixel(graph: GraphBuilder, shape: Shape) -> Sequence[int]:
    """Other factors, and the other convention for pixel centres."""
    y = Layers(graph).bconv(graph.input((*shape, 9)), 9, 9)
    return [graph.resize_nearest(y, (10, 21), half_pixel=True), graph.resize_nearest(y, (3, 4))]


def mean(graph: GraphBuilder, shape: Shape) -> Sequence[int]:
    """Global means, with and without the axes that are averaged."""
    y = Layers(graph).bconv(graph.input((*shape, 10)), 10, 13)
    return [graph.mean(y, [1, 2]), graph.mean(y, [1, 2], keep_dims=False)]


def gate(graph: GraphBuilder, shape: Shape) -> Sequence[int]:
    """A convolution scaled by the mean of another, as squeeze-and-excite blocks do."""
    layers = Layers(graph)
    x = graph.input((*shape, 16))
    return [graph.binary("MUL", layers.bconv(x, 16, 16), graph.mean(layers.bconv(x, 16, 16), [1, 2]))]


def rounding(graph: GraphBuilder, shape: Shape) -> Sequence[int]:
    """The arithmetic that simulates a quantized tensor."""
    layers = Layers(graph)
    y = graph.binary("MUL", layers.bconv(graph.input((*shape, 16)), 16, 16), graph.constant(np.float32(2)))
    y = graph.binary("MINIMUM", graph.unary("ROUND", y), graph.constant(np.float32(3)))
    y = graph.binary("MAXIMUM", y, graph.constant(np.float32(-2)))
    y = graph.binary("SUB", y, graph.constant(layers.values(16)), "RELU")
    return [layers.bconv(graph.binary("ADD", y, graph.constant(np.float32(-0.5)), "RELU_N1_TO_1"), 16, 8)]


def residuals(graph: GraphBuilder, shape: Shape) -> Sequence[int]:
    """One, two and three additions behind a convolution, with and without a PReLU before, between and behind them."""
    layers = Layers(graph)
    x, y = graph.input((*shape, 10)), graph.input((*shape, 10))
    outputs = []
    for places in ((), (0,), (1,), (2,), (0, 3)):
        z = layers.bconv(x, 10, 10)
        for count, other in enumerate((x, y, x)[: 2 + len(places) % 2]):
            z = layers.prelu(z) if count in places else z
            z = graph.binary("ADD", z, other) if count % 2 else graph.binary("ADD", other, z)
        outputs.append(layers.prelu(z) if 3 in places else z)
    return [*outputs, graph.quantize(graph.binary("ADD", outputs[0], outputs[1], "RELU6"))]


def arithmetic(graph: GraphBuilder, shape: Shape) -> Sequence[int]:
    """Every operator of two inputs, with constants on either side and between tensors."""
    layers = Layers(graph)
    x = layers.bconv(graph.input((*shape, 7)), 7, 7)
    y = layers.bconv(graph.inputs[0], 7, 7)
    factors, one = graph.constant(layers.values(7)), graph.constant(np.float32(0.75))
    outputs = []
    for name in ("ADD", "SUB", "MUL", "MINIMUM", "MAXIMUM"):
        for a, b in ((x, y), (x, factors), (factors, x), (x, one), (one, x)):
            outputs.append(graph.binary(name, a, b))
    return [*outputs, graph.binary("SUB", x, y, "RELU"), graph.binary("MUL", x, factors, "RELU6")]


def relus(graph: GraphBuilder, shape: Shape) -> Sequence[int]:
    """The activations as operators of their own."""
    layers = Layers(graph)
    y = layers.bconv(graph.input((*shape, 16)), 16, 11)
    return [graph.unary("RELU", y), graph.unary("RELU6", y), graph.unary("RELU_N1_TO_1", y)]


def many_uses(graph: GraphBuilder, shape: Shape) -> Sequence[int]:
    """Tensors that are outputs of the graph and go on inside it, signs among them."""
    layers = Layers(graph)
    x = graph.input((*shape, 35))
    bits = graph.quantize(x)
    y = layers.bconv(bits, 35, 35, output="int32")
    z = layers.bconv(y, 35, 35)
    return [bits, graph.binary("ADD", layers.bconv(z, 35, 35), z), z, y, graph.dequantize(y, 35)]


def two_inputs(graph: GraphBuilder, shape: Shape) -> Sequence[int]:
    """Two graph inputs, together and apart."""
    layers = Layers(graph)
    x, y = graph.input((*shape, 8)), graph.input((*shape, 5))
    return [layers.bconv(graph.concat([x, y]), 13, 6), graph.binary("SUB", layers.bconv(y, 5, 8), x)]


def pooled(size: tuple[int, int], stride: tuple[int, int], padding: str) -> Build:
    """Binary pooling in front of a convolution."""

    def build(graph: GraphBuilder, shape: Shape) -> Sequence[int]:
        bits = graph.bmaxpool(graph.quantize(graph.input((*shape, 40))), size, stride, padding)
        return [Layers(graph).bconv(bits, 40, 12), graph.dequantize(bits, 40)]

    return build


def dequantize_int8(graph: GraphBuilder, shape: Shape) -> Sequence[int]:
    """Signs as int8, and signs of int8."""
    bits = graph.quantize(graph.input((*shape, 33)))
    y = graph.dequantize(bits, 33, "int8", scale=0.25, zero_point=3)
    return [y, graph.quantize(y), graph.dequantize(bits, 33, "int8", scale=0.001, zero_point=-100)]


def extreme_int8(graph: GraphBuilder, shape: Shape) -> Sequence[int]:
    """Scales and zero points that no integer or no float can hold the result of."""
    bits = graph.quantize(graph.input((*shape, 3)))
    extremes = ((1e-45, -(2**31)), (1e-9, 2**31 - 1), (3e38, 0))
    values = [graph.dequantize(bits, 3, "int8", scale=scale, zero_point=zero) for scale, zero in extremes]
    return [*values, *(graph.quantize(value) for value in values)]


def left_alone(graph: GraphBuilder, shape: Shape) -> Sequence[int]:
    """Operators that have a constant for every pixel, which the runtime must be left to run, between binary ones."""
    layers = Layers(graph)
    y = layers.bconv(graph.input((*shape, 12)), 12, 12)
    y = graph.binary("ADD", y, graph.constant(layers.values(*shape[1:], 12)))
    y = graph.binary("PRELU", layers.bconv(y, 12, 12), graph.constant(layers.values(*shape[1:], 12)))
    return [layers.bconv(y, 12, 5), y]


def reals_pooled(graph: GraphBuilder, shape: Shape) -> Sequence[int]:
    """The pooling of real values, whose signs go on."""
    x = Layers(graph).bconv(graph.input((*shape, 10)), 10, 10)
    return [graph.quantize(graph.pool("MAX_POOL_2D", x, (3, 3), (2, 2)))]


GRAPHS: dict[str, Build] = {
    "ms_block": ms_block,
    "two_regions": two_regions,
    "integer_convs": integer_convs,
    "image_convs": image_convs,
    "group_mean": group_mean,
    "tile": tile,
    "average_pool": average_pool,
    "average_pool_valid": average_pool_valid,
    "upsample": upsample,
    "upsample_half_pixel": upsample_half_pixel,
    "mean": mean,
    "gate": gate,
    "left_alone": left_alone,
    "rounding": rounding,
    "residuals": residuals,
    "arithmetic": arithmetic,
    "upsample_more": upsample_more,
    "relus": relus,
    "many_uses": many_uses,
    "two_inputs": two_inputs,
    "max_pool_same": pooled((3, 3), (2, 2), "SAME"),
    "max_pool_valid": pooled((2, 3), (1, 2), "VALID"),
    "dequantize_int8": dequantize_int8,
    "reals_pooled": reals_pooled,
}
#: Whose outputs LCE itself leaves to chance: for the fuzzer alone.
EXTREMES: dict[str, Build] = {"extreme_int8": extreme_int8}
