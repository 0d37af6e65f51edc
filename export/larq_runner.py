"""The Keras/Larq rebuild as a runner: the step between torch and the converted file."""

from __future__ import annotations

from typing import Any

import numpy as np

from bihrnet_edge.pose.metadata import PoseMetadata
from bihrnet_edge.runtimes.base import Heatmaps, Images, Runner


class LarqRunner(Runner):
    """Runs a Keras model that takes and gives one image at a time, channels last."""

    name = "larq"
    batch = 1

    def __init__(self, model: Any, metadata: PoseMetadata) -> None:
        import tensorflow as tf

        self.metadata = metadata
        # Traced once: calling a Keras model layer by layer takes seconds at this depth.
        self._function = tf.function(lambda images: model(images, training=False))
        self._input: Images | None = None
        self._output: Any = None

    def prepare(self, images: Images) -> None:
        self._input = images

    def invoke(self) -> None:
        self._output = self._function(self._input)

    def heatmaps(self) -> Heatmaps:
        return np.ascontiguousarray(self._output.numpy().transpose(0, 3, 1, 2))
