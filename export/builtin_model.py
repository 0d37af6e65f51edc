"""The Keras rebuild in operators that every TensorFlow Lite runtime has: a binary unit is a clamp and a convolution.

As in :mod:`bihrnet_edge.export.folding`, with ``t = 1`` where ``x < beta`` and else 0,

    conv(sign, w) = sum(w) + conv(t, -2w)

so that padding with +1 becomes the padding with 0 that convolutions have built in. BatchNorm, ``mean|w|`` and
``sum(w)`` go into kernel and bias.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bihrnet_edge.calibration.scales import HIGHEST, LOWEST, Grid, Operation
from bihrnet_edge.export.larq_int8 import QuantizedBuilder, threshold_codes
from bihrnet_edge.export.larq_layers import ClampToOne, FakeQuant
from bihrnet_edge.export.larq_model import LarqBuilder
from bihrnet_edge.export.tensorflow_env import tf_keras
from bihrnet_edge.export.weights import WeightStore
from bihrnet_edge.model.config import ModelConfig

#: ``x - beta`` times this is past the clamp whenever it is not 0: a difference of float32 values of the size of
#: activations is far from 2**-96, and the product far from the end of float32's range.
_STEEPNESS_BITS = 96

#: A kernel of all zeros has no int8 scale; 256 steps times 2**-16 round to 0 as well.
_LEAST_BITS = 16

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Pending:
    """A convolution whose BatchNorm comes next: kernel ``(O, I, H, W)`` and bias for a scale of 1."""

    y: Any
    layer: Any
    kernel: Float64
    bias: Float64
    rounded: bool


class BuiltinBuilder(LarqBuilder):
    """Float operators alone.

    The sign is one multiplication, one addition and one clamp a value, which XNNPACK does in one pass: a depthwise
    1x1 convolution. ``clamp((beta - x) * 2**k, 0, 1)`` is 1 where ``x < beta`` and 0 where not, ``x = beta`` included,
    in whatever way the sum is rounded. Needs float32 arithmetic.

    Args:
        config, store, others: as the next builder has them.
        half: round kernels and biases to float16, but for the stem and the head of a binary network, whose rounding
            would flip signs for 40 kB; ``sum(w)`` is then that of the rounded kernel.
    """

    #: What stands for ``t = 1``.
    one = 1.0

    def __init__(self, config: ModelConfig, store: WeightStore, *, half: bool = False, **others: Any) -> None:
        super().__init__(config, store, **others)
        self._half = half
        self._pending: dict[int, _Pending] = {}
        self._signs: Counter[int] = Counter()

    def threshold(self, x: Any, name: str) -> Any:
        """All of an RSign: ``t``."""
        channels = x.shape[-1]
        steepness = 2.0**_STEEPNESS_BITS * self._next_factor(x)
        layer = tf_keras.layers.DepthwiseConv2D(1, activation="relu", name=name)
        y = layer(x)
        beta = self.beta(x, name).astype(np.float64)
        kernel = np.full((1, 1, channels, 1), -steepness, np.float32)
        layer.set_weights([kernel, (beta * steepness).astype(np.float32)])
        # Clamped twice, as TensorFlow Lite has no clamp to (0, 1) that is as old as these two.
        return ClampToOne(name=f"{name}.clamp")(y)

    def _next_factor(self, x: Any) -> float:
        """1, 2, 4, … for one comparison of ``x`` after the other.

        With the same kernel the converter makes one product and several sums of them.
        """
        self._signs[id(x)] += 1
        return 2.0 ** (self._signs[id(x)] - 1)

    def average_pool(self, x: Any, side: int) -> Any:
        """As a depthwise convolution.

        XNNPACK's pooling adds in another order than torch, and a last digit can flip a sign; its convolutions add one
        tap after the other, and are there for int8 too, where its pooling is not.
        """
        layer = tf_keras.layers.DepthwiseConv2D(side, strides=side, use_bias=False, name=self.unnamed("average_pool"))
        y = layer(x)
        layer.set_weights([np.full((side, side, x.shape[-1], 1), 1.0 / side**2, np.float32)])
        return self.emit(layer.name, "pick", y, [x])

    def convolution(
        self, x: Any, name: str, channels: int, size: int, *, binary: bool, stride: int = 1, dilation: int = 1
    ) -> Any:
        """A convolution that :meth:`batch_norm` gives its weights."""
        layer = tf_keras.layers.Conv2D(
            channels,
            size,
            strides=stride,
            dilation_rate=dilation,
            padding="same",
            kernel_initializer="zeros",
            name=name,
        )
        y = layer(x)
        kernel = self.store.take(f"{name}.weight", (channels, x.shape[-1], size, size)).astype(np.float64)
        bias = np.zeros(channels)
        if binary:
            magnitude = np.abs(kernel).mean(axis=(1, 2, 3), keepdims=True).astype(np.float32).astype(np.float64)
            kernel = np.where(kernel < 0, -magnitude, magnitude)
        rounded = self._half and (binary or not self.config.binary)
        self._pending[id(y)] = _Pending(y, layer, kernel, bias, rounded)
        return y

    def batch_norm(self, x: Any, name: str, operation: Operation) -> Any:
        """BatchNorm as part of the convolution before."""
        pending = self._pending.pop(id(x))
        scale, bias = self.affine(name, x.shape[-1])
        kernel = pending.kernel * scale[:, None, None, None]
        if operation == "unit":
            kernel *= -2.0 / self.one
        if pending.rounded:
            kernel = _float16(kernel)
        if operation == "unit":
            bias -= kernel.sum(axis=(1, 2, 3)) * self.one / 2.0
        if pending.rounded:
            bias = _float16(bias)
        pending.layer.set_weights([kernel.transpose(2, 3, 1, 0).astype(np.float32), bias.astype(np.float32)])
        return self.emit(name, operation, x, [])


class Int8BuiltinBuilder(BuiltinBuilder, QuantizedBuilder):
    """Int8 operators alone, at the scales of :class:`~bihrnet_edge.export.larq_int8.QuantizedBuilder`.

    The sign is the same depthwise 1x1 convolution, on bytes: one step of the difference is 255.5 of the result's, whose
    zero point is -128, so that anything but 0 saturates. An addition of bytes with such scales would do it as well,
    but not in TensorFlow Lite's own kernels, which cut its sums to 16 bits.
    """

    def __init__(
        self, config: ModelConfig, store: WeightStore, grids: Mapping[str, Grid], offset: Sequence[float] = ()
    ) -> None:
        super().__init__(config, store, grids=grids, offset=offset)

    def threshold(self, x: Any, name: str) -> Any:
        grid = self._grids[self.name_of(x)]
        channels = x.shape[-1]
        # From "always +1" to "always -1".
        ends = LOWEST - grid.zero_point, HIGHEST + 1 - grid.zero_point
        codes = threshold_codes(self.beta(x, name), grid.scale, ends)
        layer = tf_keras.layers.DepthwiseConv2D(1, name=name)
        y = layer(x)
        factor = self._next_factor(x)
        kernel = np.full((1, 1, channels, 1), -factor, np.float32)
        layer.set_weights([kernel, (codes * grid.scale * factor).astype(np.float32)])
        # Half a step more than 255, which would be at the mercy of rounding.
        scale = grid.scale * factor / 255.5
        self.one = 255 * scale
        return FakeQuant(scale, LOWEST, name=f"{name}.int8")(y)

    def rectify(self, x: Any, name: str, slope: npt.NDArray[np.float32]) -> Any:
        """``x + relu((slope - 1) x)`` where no slope is above 1: a depthwise convolution that saturates, and a sum.

        XNNPACK has no int8 PReLU, and TensorFlow Lite's own is slow and rounds slopes to one scale for all channels.
        """
        if (slope > 1.0).any():
            return super().rectify(x, name, slope)
        grid = self._grids[self.name_of(x)]
        layer = tf_keras.layers.DepthwiseConv2D(1, use_bias=False, name=f"{name}.negative")
        y = layer(x)
        kernel = np.minimum(slope - 1.0, -(2.0**-_LEAST_BITS))
        layer.set_weights([kernel.astype(np.float32)[np.newaxis, np.newaxis, :, np.newaxis]])
        # Past 255 steps the sum is past the greatest byte, too.
        y = FakeQuant(grid.scale, LOWEST, name=f"{name}.negative.int8")(y)
        return tf_keras.layers.Add(name=name)([x, y])


def _float16(values: Float64) -> Float64:
    """Rounded to float16, all of them or, where one is too large for that, none."""
    with np.errstate(over="ignore"):
        rounded = values.astype(np.float16).astype(np.float64)
    return rounded if np.isfinite(rounded).all() else values
