"""Models with a float convolution of integers, and what is checked of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from delegate_runs import Array, profile_of, run_delegate
from lce_models import Bconv, GraphBuilder, random_inputs, run_lce


@dataclass(frozen=True)
class IntegerConv:
    """ROUND, MINIMUM, MAXIMUM and CONV_2D, before a binary convolution that makes the delegate take them."""

    channels_in: int = 12
    channels_out: int = 21
    size: tuple[int, int] = (9, 11)
    batch: int = 1
    kernel: tuple[int, int] = (3, 3)
    stride: tuple[int, int] = (2, 2)
    dilation: tuple[int, int] = (1, 1)
    padding: str = "SAME"
    activation: str = "NONE"
    low: float = -127.0
    high: float = 127.0
    prelu: bool = True
    maximum_first: bool = False
    constant_first: bool = False
    seed: int = 0
    #: What the weights and biases, whole numbers, are multiplied with.
    weight_scale: float = 2.0**-8
    bias_scale: float = 2.0**-6

    def words(self, graph: GraphBuilder, x: int) -> int:
        """The rounded tensor."""
        rng = np.random.default_rng(self.seed)
        if self.prelu:
            slopes = rng.uniform(-0.5, 0.5, (1, 1, self.channels_in)).astype(np.float32)
            x = graph.binary("PRELU", x, graph.constant(slopes))
        x = graph.unary("ROUND", x)
        bounds = [("MINIMUM", self.high), ("MAXIMUM", self.low)]
        for name, bound in reversed(bounds) if self.maximum_first else bounds:
            constant = graph.constant(np.float32(bound))
            x = graph.binary(name, *((constant, x) if self.constant_first else (x, constant)))
        return x

    def conv(self, graph: GraphBuilder, words: int) -> int:
        rng = np.random.default_rng(self.seed + 1)
        whole = rng.integers(-40, 41, (self.channels_out, *self.kernel, self.channels_in))
        bias = rng.integers(-999, 1000, self.channels_out)
        return graph.conv2d(
            words,
            (whole * self.weight_scale).astype(np.float32),
            (bias * self.bias_scale).astype(np.float32),
            stride=self.stride,
            dilation=self.dilation,
            padding=self.padding,
            activation=self.activation,
        )

    def binary(self, graph: GraphBuilder, y: int) -> int:
        return Bconv(channels_in=self.channels_out, channels_out=5, seed=self.seed).add(graph, graph.quantize(y))

    def model(self) -> bytes:
        graph = GraphBuilder()
        x = graph.input((self.batch, *self.size, self.channels_in))
        y = self.conv(graph, self.words(graph, x))
        return graph.finish(y, self.binary(graph, y))

    def inputs(self) -> list[Array]:
        """Ties and numbers beyond the bounds among them."""
        (values,) = random_inputs(self.model(), self.seed)
        return [np.where(values > 1, np.round(values * 200) / 2, values * 90).astype(np.float32)]


def assert_same(got: list[Array], expected: list[Array]) -> None:
    """Equal to the bit, but for the sign of zero."""
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def taken(model: bytes, inputs: list[Array]) -> int:
    """How many float convolutions the delegate computes."""
    regions = profile_of(model, inputs)["regions"]
    return sum(step["kind"] == "conv" for region in regions for step in region["steps"])


def check(model: bytes, inputs: list[Array], convolutions: int) -> None:
    """LCE's interpreter, the kernels and any number of threads agree."""
    expected = run_lce(model, inputs)
    options: tuple[dict[str, Any], ...] = ({}, {"kernel": "scalar"}, {"threads": 3})
    for each in options:
        assert_same(run_delegate(model, inputs, **each), expected)
    assert taken(model, inputs) == convolutions
