"""Random graphs of LCE's operators and built-in ones between them, whose every number is exact in float32.

Weights are +1 and -1, scales and slopes powers of two, everything else a whole number, windows of an average powers of
two: no sum rounds, in whatever order it is taken, so that two right runtimes give the same bits.
"""

from __future__ import annotations

import math
import random

import numpy as np
from lce_models import GraphBuilder
from numpy.typing import NDArray


class RandomGraph:
    """One graph, drawn from a seed: a list of live float tensors that operators are added to."""

    def __init__(self, seed: int, batch: int = 1, largest: int = 11) -> None:
        self.choose = random.Random(seed)
        self.rng = np.random.default_rng(seed)
        self.graph = GraphBuilder()
        height, width = self.choose.randint(2, largest), self.choose.randint(2, largest)
        self.live = [
            self.graph.input((batch, height, width, self.channels())) for _ in range(self.choose.randint(1, 2))
        ]

    def channels(self) -> int:
        return self.choose.choice([1, 3, 4, 8, 17, 32, 33, 64, 70])

    def whole(self, count: int, limit: int = 3) -> NDArray[np.float32]:
        return self.rng.integers(-limit, limit, count, endpoint=True).astype(np.float32)

    def pick(self) -> int:
        return self.choose.choice(self.live[-4:])  # mostly deep graphs

    def depth(self, tensor: int) -> int:
        return self.graph.shape(tensor)[3]

    def bconv(self, x: int) -> int:
        kernel = (self.choose.choice([1, 1, 3, 3, 2, 5]), self.choose.choice([1, 1, 3, 3, 2, 5]))
        stride = self.choose.choice([(1, 1), (1, 1), (2, 2), (1, 2)])
        dilation = self.choose.choice([(1, 1), (1, 1), (2, 2), (1, 3)])
        reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
        fits = all(n >= r for n, r in zip(self.graph.shape(x)[1:3], reach, strict=True))
        channels_in, channels_out = self.depth(x), self.channels()
        if self.choose.random() < 0.25:  # a residual needs as many
            channels_out = channels_in
        signs = self.graph.quantize(x)
        if self.choose.random() < 0.15 and min(self.graph.shape(x)[1:3]) > 1:
            signs = self.graph.bmaxpool(signs)
            fits = False
        options = {
            "stride": stride,
            "dilation": dilation,
            "padding": self.choose.choice(["SAME", "VALID"]) if fits else "SAME",
        }
        weights = self.rng.choice([-1.0, 1.0], (channels_out, *kernel, channels_in))
        if self.choose.random() < 0.25:  # straight into the next one
            half = kernel[0] * kernel[1] * channels_in // 2
            thresholds = self.rng.integers(half - 4, half + 4, channels_out)
            bits = self.graph.bconv(signs, weights, channels_in, output="int32", thresholds=thresholds, **options)
            if self.choose.random() < 0.5:
                return self.graph.dequantize(bits, channels_out)
            signs, channels_in = bits, channels_out
            weights = self.rng.choice([-1.0, 1.0], (channels_out, 1, 1, channels_in))
            options = {}
        return self.graph.bconv(
            signs,
            weights,
            channels_in,
            multiplier=self.rng.choice([-0.5, 0.5, 1.0, 2.0], channels_out),
            bias=self.whole(channels_out, 9),
            activation=self.choose.choice(["NONE", "NONE", "RELU", "RELU6", "RELU_N1_TO_1"]),
            **options,
        )

    def prelu(self, x: int) -> int:
        shape = self.choose.choice([(1, 1, self.depth(x))] * 4 + [(self.depth(x),), (1, 1, 1), self.graph.shape(x)[1:]])
        slopes = self.rng.choice([-1.0, 0.0, 0.5, 1.0, 2.0], shape)
        return self.graph.binary("PRELU", x, self.graph.constant(slopes, "float32"))

    def constant(self, x: int) -> int:
        name = self.choose.choice(["ADD", "SUB", "MUL", "MINIMUM", "MAXIMUM"])
        count = self.choose.choice([1, self.depth(x)])
        values = self.rng.choice([-1.0, 0.5, 1.0], count) if name == "MUL" else self.whole(count)
        pair = [x, self.graph.constant(values, "float32")]
        if name != "SUB" and self.choose.random() < 0.3:
            pair.reverse()
        activation = self.choose.choice(["NONE", "NONE", "RELU", "RELU6"]) if name in ("ADD", "SUB", "MUL") else "NONE"
        return self.graph.binary(name, *pair, activation)

    def two(self, x: int) -> int:
        same = [t for t in self.live if self.graph.shape(t) == self.graph.shape(x)]
        name = self.choose.choice(["ADD", "ADD", "SUB", "MINIMUM", "MAXIMUM"])
        return self.graph.binary(name, x, self.choose.choice(same))

    def broadcast(self, x: int) -> int:
        """With one value a channel of each image, as squeeze-and-excite blocks have."""
        whole = self.graph.shape(x)[1:3]
        one = self.graph.pool("MAX_POOL_2D", x, whole, (1, 1), "VALID")
        pair = [x, one] if self.choose.random() < 0.5 else [one, x]
        return self.graph.binary(self.choose.choice(["ADD", "SUB", "MAXIMUM"]), *pair)

    def concat(self, x: int) -> int:
        same = [t for t in self.live if self.graph.shape(t)[:3] == self.graph.shape(x)[:3]]
        if self.choose.random() < 0.1 and math.prod(self.graph.shape(x)[1:3]) < 300:
            return self.graph.concat([x, x], axis=self.choose.choice([1, 2]))
        return self.graph.concat([x, *self.choose.choices(same, k=self.choose.randint(0, 3))])

    def slices(self, x: int) -> int:
        """Mostly of channels; of pixels it is left to the runtime."""
        begin = self.choose.randrange(self.depth(x))
        end = self.choose.randint(begin + 1, self.depth(x))
        if self.choose.random() < 0.8:
            return self.graph.channels(x, begin, end)
        batch, height, width, _ = self.graph.shape(x)
        strides = [1, *self.choose.choice([(1, 1, 1), (2, 1, 1), (1, 2, 2)])]
        return self.graph.strided_slice(x, [0, height // 2, 0, begin], [batch, height, width, end], strides)

    def unary(self, x: int) -> int:
        """FLOOR is not one of the delegate's: the graph falls into several regions."""
        return self.graph.unary(self.choose.choice(["RELU", "RELU6", "RELU_N1_TO_1", "ROUND", "FLOOR"]), x)

    def pool(self, x: int) -> int:
        name = self.choose.choice(["AVERAGE_POOL_2D", "MAX_POOL_2D"])
        largest = 2 if name == "AVERAGE_POOL_2D" else 4
        size = [self.choose.randint(1, min(largest, n)) for n in self.graph.shape(x)[1:3]]
        if size == [1, 1]:  # on which tf.lite 2.19 aborts, without any delegate of ours
            return self.unary(x)
        stride = [self.choose.choice([1, n]) for n in size]
        return self.graph.pool(
            name, x, (size[0], size[1]), (stride[0], stride[1]), self.choose.choice(["SAME", "VALID"])
        )

    def resize(self, x: int) -> int:
        _, height, width, _ = self.graph.shape(x)
        factor = self.choose.choice([1, 2, 3])
        if height * factor * width * factor > 500:
            return x
        if self.choose.random() < 0.5:
            return self.graph.resize_nearest(x, (height * factor, width * self.choose.choice([1, factor])))
        size = self.choose.randint(1, 2 * height), self.choose.randint(1, 2 * width)
        options = self.choose.choice([{}, {"align_corners": True}, {"half_pixel": True}])
        return self.graph.resize_nearest(x, size, **options)

    def fuse(self, x: int) -> int:
        """With smaller maps, as HRNet's branches are fused; at times others read what was resized, too."""
        _, height, width, channels = self.graph.shape(x)
        total = x
        for _ in range(self.choose.randint(1, 3)):
            small = self.graph.bconv(
                self.graph.quantize(self.choose.choice([x, total])),
                self.rng.choice([-1.0, 1.0], (channels, 1, 1, channels)),
                channels,
                multiplier=self.rng.choice([-0.5, 0.5, 1.0], channels),
                bias=self.whole(channels, 9),
                stride=self.choose.choice([(1, 2), (2, 2), (2, 2), (4, 4), (3, 8)]),
            )
            resized = self.graph.resize_nearest(
                small, (height, width), **self.choose.choice([{}, {}, {"align_corners": True}, {"half_pixel": True}])
            )
            pair = [total, resized]
            if self.choose.random() < 0.4:
                pair.reverse()
            total = self.graph.binary(self.choose.choice(["ADD", "ADD", "ADD", "SUB", "MAXIMUM"]), *pair)
            if self.choose.random() < 0.2:
                self.live.append(resized)
        return total

    def model(self, operators: int) -> bytes:
        """The graph with so many operators drawn; its outputs are what no operator takes, and at times others."""
        kinds = [self.bconv] * 5 + [self.two] * 3 + [
            self.prelu, self.prelu, self.constant, self.concat, self.slices, self.unary, self.pool, self.resize,
            self.broadcast, self.fuse, self.fuse,
        ]  # fmt: skip
        self.live += [self.bconv(tensor) for tensor in self.live]
        for _ in range(operators):
            self.live.append(self.choose.choice(kinds)(self.pick()))
        used = {index for operator in self.graph.operators for index in operator.inputs.tolist()}
        ends = [tensor for tensor in dict.fromkeys(self.live) if tensor not in used and tensor not in self.graph.inputs]
        others = [tensor for tensor in self.live if tensor not in self.graph.inputs and tensor not in ends]
        return self.graph.finish(
            *ends, *set(self.choose.sample(others, k=min(len(others), self.choose.choice([0, 1, 2]))))
        )

    def inputs(self) -> list[NDArray[np.float32]]:
        return [self.rng.integers(-4, 5, self.graph.shape(tensor)).astype(np.float32) for tensor in self.graph.inputs]
