"""BiHRNet rebuilt in Keras with Larq's quantizers, from the config and the PyTorch weights.

Layers carry the PyTorch modules' names (``stage1.0.reduce.conv``), so that a tensor in the .tflite can be
traced back to the parameter it came from. Data is ``(1, H, W, C)``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bihrnet_edge.calibration.scales import Operation
from bihrnet_edge.errors import UserError
from bihrnet_edge.export.larq_layers import Affine, ChannelSlice, RoundToInteger, Scale, Threshold
from bihrnet_edge.export.tensorflow_env import larq, tf, tf_keras
from bihrnet_edge.export.weights import WeightStore
from bihrnet_edge.model.config import (
    BOTTLENECK_CHANNELS,
    BOTTLENECK_EXPANSION,
    INPUT_MULTIPLE,
    STEM_CHANNELS,
    STEM_LIMIT,
    ModelConfig,
)

if TYPE_CHECKING:
    import torch

#: torch.nn.BatchNorm2d's default.
_BN_EPSILON = 1e-5

_BRANCHES = 4


def build_larq_model(
    config: ModelConfig,
    state: Mapping[str, torch.Tensor | npt.NDArray[Any]],
    height: int,
    width: int,
    *,
    builder: Callable[[ModelConfig, WeightStore], LarqBuilder] | None = None,
) -> tf_keras.Model:
    """The Keras/Larq model that computes what ``BiHRNet(config)`` with this ``state_dict`` computes.

    Args:
        config: the architecture; ``binary=False`` gives the real-valued twin in plain Keras layers.
        state: PyTorch ``state_dict``; every tensor in it must be used, and none may be missing.
        height, width: input size in pixels, multiples of 32.
        builder: makes what builds the network; :class:`LarqBuilder` unless given.

    Returns:
        A functional model, images ``(1, height, width, 3)`` to heatmaps ``(1, height/4, width/4, K)``.

    Raises:
        UserError: the size is not a multiple of 32, or the weights do not belong to the config.
    """
    for side, value in (("height", height), ("width", width)):
        if value < INPUT_MULTIPLE or value % INPUT_MULTIPLE:
            raise UserError(f"input {side} is {value}; give a multiple of {INPUT_MULTIPLE} pixels.")
    store = WeightStore(state)
    images = tf_keras.Input((height, width, 3), batch_size=1, name="images")
    # None of the layers needs autograph; Keras would run it on each call of each.
    heatmaps = tf.autograph.experimental.do_not_convert((builder or LarqBuilder)(config, store).network)(images)
    store.finish()
    return tf_keras.Model(images, heatmaps, name="bihrnet")


class LarqBuilder:
    """One method a module of :mod:`bihrnet_edge.model`; ``name`` is the module's path in the state_dict.

    Takes and returns Keras tensors ``(1, H, W, C)``. Weights are taken from ``store`` as layers are made.
    """

    def __init__(self, config: ModelConfig, store: WeightStore) -> None:
        self.config = config
        self.store = store
        self._unnamed = 0

    def emit(
        self,
        name: str,
        operation: Operation,
        y: Any,
        inputs: Sequence[Any],
        terms: int = 1,
        channels: tuple[int, int] | None = None,
    ) -> Any:
        """What the next layer gets in place of ``y``: itself here, observed or quantised in subclasses.

        Called with every tensor that a ``.tflite`` would hold as real values, in the order they are computed.

        Args:
            name: of the layer that computed it.
            operation: what that does.
            y: the tensor.
            inputs: the tensors that it was computed from, as this method returned them; none for convolutions.
            terms: for a ``sum``, of how many tensors.
            channels: for a slice, from and to (exclusive) which ones.
        """
        return y

    def network(self, images: Any) -> Any:
        """Images (1, H, W, 3) to heatmaps (1, H/4, W/4, K)."""
        config = self.config
        x = self.stem(self.emit("images", "input", images, []), "stem.0")
        if config.integer_stem:
            x = self.round(x)
        x = self.shift(self.stem(x, "stem.1"))
        for index in range(config.bottlenecks):
            x = self.bottleneck(x, f"stage1.{index}")
        xs = [
            self.resample(x, f"transition1.{branch}", config.branch_channels(branch), 3, stride=branch + 1)
            for branch in range(2)
        ]
        xs = self.stage(xs, 2)
        for branches in range(3, _BRANCHES + 1):
            new = branches - 1
            step = self.resample(xs[-1], f"transition{new}", config.branch_channels(new), 3, stride=2)
            xs = self.stage([*xs, step], branches)
        return self.head(xs[0])

    def stem(self, x: Any, name: str) -> Any:
        """Real-valued 3x3 stride-2 convolution, BatchNorm, PReLU."""
        x = self.convolution(x, f"{name}.conv", STEM_CHANNELS, 3, binary=False, stride=2)
        return self.prelu(self.batch_norm(x, f"{name}.bn", "convolution"), f"{name}.act")

    def round(self, x: Any) -> Any:
        """The integers that the second convolution of an integer stem takes."""
        return RoundToInteger(STEM_LIMIT, name=self.unnamed("round"))(x)

    def shift(self, x: Any) -> Any:
        """The stem's output, less a constant a channel in a subclass that moves thresholds and head along."""
        return x

    def head(self, x: Any) -> Any:
        """Real-valued 1x1 convolution with a bias, one channel a keypoint."""
        channels, keypoints = x.shape[-1], self.config.keypoints
        layer = tf_keras.layers.Conv2D(keypoints, 1, kernel_initializer="zeros", name="head")
        y = layer(x)
        kernel = self.store.take("head.weight", (keypoints, channels, 1, 1))
        layer.set_weights([kernel.transpose(2, 3, 1, 0), self.head_bias(x, kernel)])
        return self.emit("head", "convolution", y, [])

    def head_bias(self, x: Any, kernel: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Of the head, whose kernel ``(K, C, 1, 1)`` is applied to ``x``."""
        return self.store.take("head.bias", (kernel.shape[0],))

    def bottleneck(self, x: Any, name: str) -> Any:
        """A stage-1 bottleneck, ``ir`` or ``plain``."""
        planes, out = BOTTLENECK_CHANNELS, BOTTLENECK_CHANNELS * BOTTLENECK_EXPANSION
        if self.config.bottleneck == "plain":
            y = self.unit(x, f"{name}.reduce", planes, 1)
            y = self.unit(self.unit(y, f"{name}.spatial", planes, 3), f"{name}.expand", out, 1)
            return self.add(y, self.match_channels(x, out))
        a = self.add(self.match_channels(x, planes), self.unit(x, f"{name}.reduce", planes, 1))
        b = self.add(a, self.unit(a, f"{name}.spatial", planes, 3))
        c = self.add(self.match_channels(b, out), self.unit(b, f"{name}.expand", out, 1))
        return self.add(c, self.match_channels(x, out))

    def block(self, x: Any, name: str) -> Any:
        """An MS-Block or a basic block."""
        channels = x.shape[-1]
        if self.config.block == "basic":
            u = self.add(x, self.unit(x, f"{name}.first", channels, 3))
            return self.add(u, self.unit(u, f"{name}.second", channels, 3))
        near = self.unit(x, f"{name}.near", channels // 2, 3)
        far = self.unit(x, f"{name}.far", channels // 2, 3, dilation=2)
        u = self.add(x, self.concatenate([near, far]))
        return self.add(u, self.unit(u, f"{name}.mix", channels, 3))

    def stage(self, xs: list[Any], number: int) -> list[Any]:
        """All modules of stage 2, 3 or 4, on one tensor a branch."""
        count = self.config.modules[number - 2]
        for index in range(count):
            name = f"stage{number}.{index}"
            outputs = 1 if number == _BRANCHES and index == count - 1 else len(xs)
            for branch, x in enumerate(xs):
                for block in range(self.config.blocks):
                    x = self.block(x, f"{name}.branches.{branch}.{block}")
                xs[branch] = x
            xs = [self.fuse(xs, f"{name}.fusion.paths.{target}", target) for target in range(outputs)]
        return xs

    def fuse(self, xs: list[Any], name: str, target: int) -> Any:
        """The mean of all branches, each brought to the size of branch ``target``."""
        return self.mean(self.path(x, f"{name}.{source}", source, target) for source, x in enumerate(xs))

    def path(self, x: Any, name: str, source: int, target: int) -> Any:
        """One branch brought to another's size: repeated 3x3 stride-2 steps, or 1x1 and nearest upsampling."""
        channels = self.config.branch_channels
        if source > target:
            y = self.resample(x, f"{name}.step", channels(target), 1)
            return self.upsample(y, 2 ** (source - target))
        for step in range(target - source):
            last = step == target - source - 1
            x = self.resample(x, f"{name}.{step}", channels(target if last else source), 3, stride=2)
        return x

    def resample(self, x: Any, name: str, channels: int, kernel: int, *, stride: int = 1) -> Any:
        """A unit that changes size or channels, beside average pooling and :meth:`match_channels`."""
        shortcut = x
        if stride > 1:
            shortcut = self.average_pool(x, stride)
        return self.add(
            self.match_channels(shortcut, channels), self.unit(x, f"{name}.unit", channels, kernel, stride=stride)
        )

    def upsample(self, x: Any, factor: int) -> Any:
        """Nearest neighbours."""
        layer = tf_keras.layers.UpSampling2D(factor, interpolation="nearest", name=self.unnamed("upsample"))
        return self.emit(layer.name, "pick", layer(x), [x])

    def average_pool(self, x: Any, side: int) -> Any:
        """Means of squares that do not overlap."""
        layer = tf_keras.layers.AveragePooling2D(side, name=self.unnamed("average_pool"))
        return self.emit(layer.name, "pick", layer(x), [x])

    def unit(self, x: Any, name: str, channels: int, kernel: int, *, stride: int = 1, dilation: int = 1) -> Any:
        """RSign, convolution, BatchNorm, PReLU; without RSign in the real-valued twin."""
        binary = self.config.binary
        if binary:
            x = self.threshold(x, f"{name}.sign")
        x = self.convolution(x, f"{name}.conv", channels, kernel, binary=binary, stride=stride, dilation=dilation)
        x = self.batch_norm(x, f"{name}.bn", "unit" if binary else "convolution")
        return self.prelu(x, f"{name}.act")

    def threshold(self, x: Any, name: str) -> Any:
        """The first half of an RSign: ``x - beta``."""
        layer = Threshold(name=name)
        y = layer(x)
        layer.set_weights([-self.beta(x, name)])
        return y

    def beta(self, x: Any, name: str) -> npt.NDArray[np.float32]:
        """The thresholds ``(C,)`` of an RSign on ``x``."""
        return self.store.take(f"{name}.beta", (x.shape[-1],))

    def convolution(
        self, x: Any, name: str, channels: int, size: int, *, binary: bool, stride: int = 1, dilation: int = 1
    ) -> Any:
        """Convolution without bias: ``sign(w) * mean|w|`` over signs, padded with +1, or an ordinary one with 0."""
        options: dict[str, Any] = {
            "strides": stride,
            "dilation_rate": dilation,
            "padding": "same",
            "use_bias": False,
            "kernel_initializer": "zeros",
            "name": name,
        }
        if binary:
            layer = larq.layers.QuantConv2D(
                channels,
                size,
                # Named, as Larq would otherwise number them through the whole process.
                input_quantizer=larq.quantizers.ApproxSign(name="approx_sign"),
                kernel_quantizer=larq.quantizers.MagnitudeAwareSign(name="magnitude_aware_sign"),
                kernel_constraint="weight_clip",
                pad_values=1.0,
                **options,
            )
        else:
            layer = tf_keras.layers.Conv2D(channels, size, **options)
        y = layer(x)
        kernel = self.store.take(f"{name}.weight", (channels, x.shape[-1], size, size))
        layer.set_weights([kernel.transpose(2, 3, 1, 0)])
        return y

    def batch_norm(self, x: Any, name: str, operation: Operation) -> Any:
        """BatchNorm with its running statistics, behind a convolution that ``operation`` says the kind of."""
        layer = Affine(name=name)
        y = layer(x)
        layer.set_weights([part.astype(np.float32) for part in self.affine(name, x.shape[-1])])
        return self.emit(name, operation, y, [])

    def affine(self, name: str, channels: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """The factor and the summand that a BatchNorm is, both ``(C,)``."""
        gamma, shift, mean, variance = (
            self.store.take(f"{name}.{part}", (channels,)).astype(np.float64)
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        # Added in float32, where the sum is exactly 1 in a checkpoint's exact form.
        scale = gamma / np.sqrt((variance.astype(np.float32) + np.float32(_BN_EPSILON)).astype(np.float64))
        return scale, shift - mean * scale

    def prelu(self, x: Any, name: str) -> Any:
        """PReLU with one slope a channel."""
        slope = self.store.take(f"{name}.weight", (x.shape[-1],))
        return self.emit(name, "prelu", self.rectify(x, name, slope), [x])

    def rectify(self, x: Any, name: str, slope: npt.NDArray[np.float32]) -> Any:
        """What a PReLU computes."""
        layer = tf_keras.layers.PReLU(shared_axes=[1, 2], name=name)
        y = layer(x)
        layer.set_weights([slope[np.newaxis, np.newaxis, :]])
        return y

    def match_channels(self, x: Any, channels: int) -> Any:
        """Tile, or average groups: :func:`bihrnet_edge.model.blocks.match_channels` with channels last."""
        have = x.shape[-1]
        if have == channels:
            return x
        repeats = -(-max(have, channels) // min(have, channels))
        if channels > have:
            tiled = self.concatenate([x] * repeats)
            return tiled if have * repeats == channels else self.channel_slice(tiled, 0, channels)
        if have % channels:
            x = self.concatenate([x, self.channel_slice(x, 0, channels * repeats - have)])
        return self.mean(self.channel_slice(x, at * channels, (at + 1) * channels) for at in range(repeats))

    def add(self, a: Any, b: Any) -> Any:
        """Elementwise sum."""
        layer = tf_keras.layers.Add(name=self.unnamed("add"))
        return self.emit(layer.name, "add", layer([a, b]), [a, b])

    def mean(self, xs: Iterable[Any]) -> Any:
        """Elementwise mean: each is summed as soon as it is there, then a product with a constant."""
        total, terms = None, 0
        for terms, x in enumerate(xs, start=1):
            if total is None:
                total = x
                continue
            layer = tf_keras.layers.Add(name=self.unnamed("add"))
            total = self.emit(layer.name, "sum", layer([total, x]), [total, x], terms)
        scale = Scale(1.0 / terms, name=self.unnamed("scale"))
        return self.emit(scale.name, "mean", scale(total), [total])

    def concatenate(self, xs: list[Any]) -> Any:
        """Join along the channels."""
        layer = tf_keras.layers.Concatenate(name=self.unnamed("concatenate"))
        return self.emit(layer.name, "pick", layer(xs), xs)

    def channel_slice(self, x: Any, start: int, stop: int) -> Any:
        """Channels ``start`` to ``stop`` (exclusive)."""
        layer = ChannelSlice(start, stop, name=self.unnamed("slice"))
        return self.emit(layer.name, "pick", layer(x), [x], channels=(start, stop))

    def unnamed(self, kind: str) -> str:
        """A name for a layer without parameters; Keras' own would count on through the whole process."""
        self._unnamed += 1
        return f"{kind}_{self._unnamed}"
