"""The parameter-poor Keras layers that Larq does not have."""

from __future__ import annotations

from typing import Any

from bihrnet_edge.export.tensorflow_env import tf, tf_keras


def _fake_quant(x: Any, scale: float, zero_point: int = 0) -> Any:
    """``x`` rounded to what an int8 tensor holds; the converter makes int8 of it."""
    low, high = scale * (-128 - zero_point), scale * (127 - zero_point)
    return tf.quantization.fake_quant_with_min_max_vars(x, tf.constant(low, tf.float32), tf.constant(high, tf.float32))


@tf_keras.utils.register_keras_serializable("bihrnet_edge")
class Threshold(tf_keras.layers.Layer):  # type: ignore[misc]
    """``x - beta`` with one threshold a channel: an RSign is this and the next layer's ``approx_sign``.

    Stored negated, as ``x + (-beta)``: an addition of a constant is what converters fold.

    Args:
        scale: of int8 inputs with the zero point 0; thresholds are then multiples of it.
    """

    def __init__(self, scale: float | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.scale = scale

    def build(self, input_shape: Any) -> None:
        self.negative_beta = self.add_weight("negative_beta", shape=(int(input_shape[-1]),), initializer="zeros")
        super().build(input_shape)

    def call(self, inputs: Any) -> Any:
        if self.scale is None:
            return inputs + self.negative_beta
        return _fake_quant(inputs + _fake_quant(self.negative_beta, self.scale), self.scale)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "scale": self.scale}


@tf_keras.utils.register_keras_serializable("bihrnet_edge")
class Shift(tf_keras.layers.Layer):  # type: ignore[misc]
    """``x`` less one constant a channel.

    Args:
        scale: of int8 inputs; constants are then multiples of it, from -127 to 127 times.
    """

    def __init__(self, scale: float | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.scale = scale

    def build(self, input_shape: Any) -> None:
        self.negative = self.add_weight("negative", shape=(int(input_shape[-1]),), initializer="zeros")
        super().build(input_shape)

    def call(self, inputs: Any) -> Any:
        return inputs + (self.negative if self.scale is None else _fake_quant(self.negative, self.scale))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "scale": self.scale}


@tf_keras.utils.register_keras_serializable("bihrnet_edge")
class Affine(tf_keras.layers.Layer):  # type: ignore[misc]
    """``x * scale + offset`` with one of each a channel: a BatchNorm after training.

    Keras' own layer holds the variance and leaves the square root to whoever folds it. TensorFlow's reciprocal square
    root is an approximation on CPUs with AVX-512 (of 1 it is 0.99999988), so that the file would depend on the machine.
    """

    def build(self, input_shape: Any) -> None:
        shape = (int(input_shape[-1]),)
        self.scale = self.add_weight("scale", shape=shape, initializer="ones")
        self.offset = self.add_weight("offset", shape=shape, initializer="zeros")
        super().build(input_shape)

    def call(self, inputs: Any) -> Any:
        return inputs * self.scale + self.offset


@tf_keras.utils.register_keras_serializable("bihrnet_edge")
class ClampToOne(tf_keras.layers.Layer):  # type: ignore[misc]
    """Clamp to -1 to 1, TensorFlow Lite's RELU_N1_TO_1."""

    def call(self, inputs: Any) -> Any:
        return tf.minimum(tf.maximum(inputs, -1.0), 1.0)


@tf_keras.utils.register_keras_serializable("bihrnet_edge")
class ChannelSlice(tf_keras.layers.Layer):  # type: ignore[misc]
    """Channels ``start`` to ``stop`` (exclusive) of ``(N, H, W, C)``."""

    def __init__(self, start: int, stop: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.start, self.stop = start, stop

    def call(self, inputs: Any) -> Any:
        return inputs[..., self.start : self.stop]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "start": self.start, "stop": self.stop}


@tf_keras.utils.register_keras_serializable("bihrnet_edge")
class Scale(tf_keras.layers.Layer):  # type: ignore[misc]
    """Multiply by a constant."""

    def __init__(self, factor: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, inputs: Any) -> Any:
        return inputs * tf.constant(self.factor, inputs.dtype)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "factor": self.factor}


@tf_keras.utils.register_keras_serializable("bihrnet_edge")
class RoundToInteger(tf_keras.layers.Layer):  # type: ignore[misc]
    """Nearest integer, ties to even, within ``limit``."""

    def __init__(self, limit: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.limit = limit

    def call(self, inputs: Any) -> Any:
        return tf.clip_by_value(tf.round(inputs), -self.limit, self.limit)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "limit": self.limit}


@tf_keras.utils.register_keras_serializable("bihrnet_edge")
class FakeQuant(tf_keras.layers.Layer):  # type: ignore[misc]
    """Round to the 256 multiples of ``scale`` that an int8 with this zero point holds."""

    def __init__(self, scale: float, zero_point: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.scale, self.zero_point = scale, zero_point

    def call(self, inputs: Any) -> Any:
        return _fake_quant(inputs, self.scale, self.zero_point)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "scale": self.scale, "zero_point": self.zero_point}


@tf_keras.utils.register_keras_serializable("bihrnet_edge")
class SwitchedQuant(tf_keras.layers.Layer):  # type: ignore[misc]
    """:class:`FakeQuant` of those images of a batch whose switch number ``index`` is on.

    Takes ``(N, H, W, C)`` and the switches ``(N, n)``, 0 or 1.
    """

    def __init__(self, scale: float, zero_point: int, index: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.scale, self.zero_point, self.index = scale, zero_point, index

    def call(self, inputs: Any) -> Any:
        x, switches = inputs
        return tf.where(_switch(switches, self.index), _fake_quant(x, self.scale, self.zero_point), x)

    def get_config(self) -> dict[str, Any]:
        own = {"scale": self.scale, "zero_point": self.zero_point, "index": self.index}
        return {**super().get_config(), **own}


@tf_keras.utils.register_keras_serializable("bihrnet_edge")
class SwitchedThreshold(tf_keras.layers.Layer):  # type: ignore[misc]
    """:class:`Threshold` with other thresholds for those images of a batch whose switch number ``index`` is on."""

    def __init__(self, index: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.index = index

    def build(self, input_shape: Any) -> None:
        shape = (int(input_shape[0][-1]),)
        self.negative_beta = self.add_weight("negative_beta", shape=shape, initializer="zeros")
        self.rounded = self.add_weight("rounded", shape=shape, initializer="zeros")
        super().build(input_shape)

    def call(self, inputs: Any) -> Any:
        x, switches = inputs
        return x + tf.where(_switch(switches, self.index), self.rounded, self.negative_beta)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "index": self.index}


def _switch(switches: Any, index: int) -> Any:
    """``(N, 1, 1, 1)``, where switch ``index`` is on."""
    return switches[:, index][:, tf.newaxis, tf.newaxis, tf.newaxis] > 0.5
