"""int8 tensors between binary layers against LCE's interpreter: every byte is the same."""

from __future__ import annotations

import math
import random
from typing import Any

import numpy as np
import pytest
from delegate_runs import open_interpreter, run_delegate
from hypothesis import given, settings
from hypothesis import strategies as st
from lce_models import GraphBuilder, random_inputs, run_lce

pytest.importorskip("larq_compute_engine")

#: Of int8 tensors: what a calibration may give, a power of two among them.
SCALES = [0.0625, 0.0371, 0.11]


class ByteGraph:
    """Random operators on int8 tensors, each of which a binary convolution reads in the end.

    ``alike``: every tensor has one scale and a zero point of 0, as along a residual stream; else they have any.
    """

    def __init__(self, seed: int, alike: bool) -> None:
        self.choose = random.Random(seed)
        self.rng = np.random.default_rng(seed)
        self.graph = GraphBuilder()
        self.alike = alike
        size = self.choose.randint(1, 2), self.choose.randint(2, 11), self.choose.randint(2, 11)
        self.live = [self.graph.input((*size, self.channels()), "int8", **self.quantization())]
        self.live.append(self.bconv(self.live[0]))

    def channels(self) -> int:
        return self.choose.choice([1, 3, 4, 8, 17, 32, 33, 40])

    def quantization(self) -> dict[str, Any]:
        if self.alike:
            return {"scale": SCALES[1], "zero_point": 0}
        return {"scale": self.choose.choice(SCALES), "zero_point": self.choose.choice([0, -128, -7, 13, 127])}

    def bytes(self, *shape: int) -> int:
        values = self.rng.integers(-128, 127, shape, np.int8, endpoint=True)
        return self.graph.constant(values, **self.quantization())

    def bconv(self, x: int) -> int:
        channels_in = self.graph.shape(x)[3]
        channels_out = self.choose.choice([channels_in, self.channels()])
        size = self.choose.choice([1, 3])
        weights = self.rng.choice([-1.0, 1.0], (channels_out, size, size, channels_in))
        into = self.quantization()
        spread = self.choose.choice([5, 40, 200]) * into["scale"] / math.sqrt(weights[0].size)
        zero_padded = channels_in % 2 == 0 and self.choose.random() < 0.2
        return self.graph.bconv(
            self.graph.quantize(x), weights, channels_in, output="int8", stride=self.choose.choice([(1, 1), (2, 2)]),
            multiplier=self.rng.standard_normal(channels_out) * spread,
            bias=self.rng.standard_normal(channels_out) * 20 * into["scale"],
            activation="NONE" if zero_padded else self.choose.choice(["NONE", "NONE", "NONE", "RELU", "RELU6"]),
            pad_values=0 if zero_padded else 1, **into,
        )  # fmt: skip

    def conv(self, x: int) -> int:
        channels_in = self.graph.shape(x)[3]
        channels_out = self.choose.choice([channels_in, self.channels()])
        size = self.choose.choice([1, 2, 3])
        kernel = self.rng.integers(-127, 127, (channels_out, size, size, channels_in), endpoint=True)
        into = self.quantization()
        spread = self.choose.choice([5, 40, 200]) * into["scale"] / math.sqrt(kernel[0].size)
        scales = self.rng.uniform(0.2, 1, channels_out) * spread / (127 * 127 * self.graph.quantization(x)["scale"])
        return self.graph.conv2d(
            x, kernel, self.rng.integers(-5000, 5000, channels_out), scales=scales if self.choose.random() < 0.8 else
            scales[:1], stride=self.choose.choice([(1, 1), (2, 2), (1, 2)]),
            dilation=self.choose.choice([(1, 1), (1, 1), (2, 2)]), padding=self.choose.choice(["SAME", "SAME", "VALID"])
            if min(self.graph.shape(x)[1:3]) > 4 else "SAME",
            activation=self.choose.choice(["NONE", "NONE", "RELU", "RELU6"]), **into,
        )  # fmt: skip

    def prelu(self, x: int) -> int:
        depth = self.graph.shape(x)[3]
        slopes = self.bytes(1, 1, self.choose.choice([depth, depth, 1]))
        if self.choose.random() < 0.7:  # from 0 to 1, as they mostly are
            values = self.rng.integers(0, 127, (1, 1, depth), np.int8, endpoint=True)
            slopes = self.graph.constant(values, scale=1 / 127, zero_point=0)
        return self.graph.binary(
            "PRELU", x, slopes, **(self.graph.quantization(x) if self.alike else self.quantization())
        )

    def constant(self, x: int) -> int:
        pair = [x, self.bytes(self.choose.choice([1, self.graph.shape(x)[3]]))]
        if self.choose.random() < 0.3:
            pair.reverse()
        return self.binary(self.choose.choice(["ADD", "MUL"]), *pair)

    def binary(self, name: str, a: int, b: int) -> int:
        activation = self.choose.choice(["NONE", "NONE", "NONE", "RELU", "RELU6", "RELU_N1_TO_1"])
        return self.graph.binary(name, a, b, activation, **self.quantization())

    def two(self, x: int) -> int:
        return self.binary(
            "ADD", *self.choose.choices([t for t in self.live if self.graph.shape(t) == self.graph.shape(x)], k=2)
        )

    def concat(self, x: int) -> int:
        same = [
            t for t in self.live
            if self.graph.shape(t)[:3] == self.graph.shape(x)[:3]
            and self.graph.quantization(t) == self.graph.quantization(x)
        ]  # fmt: skip
        return self.graph.concat([x, *self.choose.choices(same, k=self.choose.randint(0, 2))])

    def slices(self, x: int) -> int:
        depth = self.graph.shape(x)[3]
        begin = self.choose.randrange(depth)
        return self.graph.channels(x, begin, self.choose.randint(begin + 1, depth))

    def pool(self, x: int) -> int:
        size = [self.choose.randint(1, min(3, n)) for n in self.graph.shape(x)[1:3]]
        if size == [1, 1]:
            return self.slices(x)
        name = self.choose.choice(["AVERAGE_POOL_2D", "AVERAGE_POOL_2D", "MAX_POOL_2D"])
        stride = [self.choose.choice([1, n]) for n in size]
        options = {"padding": self.choose.choice(["SAME", "VALID"]), "activation": self.choose.choice(["NONE", "RELU"])}
        return self.graph.pool(name, x, (size[0], size[1]), (stride[0], stride[1]), **options)

    def resize(self, x: int) -> int:
        _, height, width, _ = self.graph.shape(x)
        return self.graph.resize_nearest(x, (self.choose.randint(1, 2 * height), 2 * width))

    def model(self, operators: int) -> bytes:
        kinds = [self.bconv] * 4 + [self.prelu] * 3 + [self.two] * 4 + [
            self.conv, self.conv, self.constant, self.constant, self.concat, self.slices, self.pool, self.resize,
        ]  # fmt: skip
        for _ in range(operators):
            self.live.append(self.choose.choice(kinds)(self.choose.choice(self.live[-3:])))
        used = {index for operator in self.graph.operators for index in operator.inputs.tolist()}
        ends = [t for t in dict.fromkeys(self.live) if t not in used and t not in self.graph.inputs]
        return self.graph.finish(*ends, *[self.graph.quantize(t) for t in ends])


@given(st.integers(0, 10**6), st.booleans(), st.integers(1, 12))
@settings(max_examples=150, deadline=None, derandomize=True, database=None)
def test_graphs_of_bytes(seed: int, alike: bool, operators: int) -> None:
    model = ByteGraph(seed, alike).model(operators)
    inputs = random_inputs(model, seed)
    expected = run_lce(model, inputs)
    for kernel in (None, "scalar"):
        for got, want in zip(run_delegate(model, inputs, kernel=kernel), expected, strict=True):
            np.testing.assert_array_equal(got, want)


def test_tables_for_too_many_channels_are_refused() -> None:
    """256 bytes a channel and operator: half a gigabyte for a file of a kilobyte."""
    graph = GraphBuilder()
    tensor = graph.input((1, 1, 1, 1 << 20), "int8", scale=0.1, zero_point=0)
    for _ in range(2):
        one = graph.constant(np.array([3], np.int8), scale=0.1, zero_point=0)
        tensor = graph.binary("ADD", tensor, one, scale=0.2, zero_point=1)
    model = graph.finish(graph.quantize(tensor))
    assert len(model) < 4096
    with pytest.raises(RuntimeError, match="int8 tensors of the region have too many channels"):
        open_interpreter(model)
