"""The parameter-poor Keras layers that Larq does not have."""

from __future__ import annotations

from typing import Any

from bihrnet_edge.export.tensorflow_env import tf, tf_keras


@tf_keras.utils.register_keras_serializable("bihrnet_edge")
class Threshold(tf_keras.layers.Layer):  # type: ignore[misc]
    """``x - beta`` with one threshold a channel: an RSign is this and the next layer's ``approx_sign``.

    Stored negated, as ``x + (-beta)``: an addition of a constant is what converters fold.
    """

    def build(self, input_shape: Any) -> None:
        self.negative_beta = self.add_weight("negative_beta", shape=(int(input_shape[-1]),), initializer="zeros")
        super().build(input_shape)

    def call(self, inputs: Any) -> Any:
        return inputs + self.negative_beta


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
