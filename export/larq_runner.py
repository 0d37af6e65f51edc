"""The Keras/Larq rebuild as a runner: the step between torch and the converted file."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np

from bihrnet_edge.pose.metadata import PoseMetadata
from bihrnet_edge.runtimes.base import Heatmaps, Images, Runner


class LarqRunner(Runner):
    """Runs a traced Keras model that takes and gives one image at a time, channels last."""

    name = "larq"
    batch = 1

    def __init__(self, model: Any, traced: Any, metadata: PoseMetadata) -> None:
        self.metadata = metadata
        self._model = model  # owns the variables, to which a traced function refers only weakly
        self._function = traced
        self._constant = import_module("tensorflow").constant
        self._input: Images | None = None
        self._output: Any = None

    def prepare(self, images: Images) -> None:
        self._input = images

    def invoke(self) -> None:
        self._output = self._function(images=self._constant(self._input))

    def heatmaps(self) -> Heatmaps:
        return np.ascontiguousarray(self._output.numpy().transpose(0, 3, 1, 2))
