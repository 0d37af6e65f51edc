"""The Keras/Larq rebuild as a runner: the step between torch and the converted file."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from bihrnet_edge.pose.metadata import PoseMetadata
from bihrnet_edge.runtimes.base import Heatmaps, Images, Runner

if TYPE_CHECKING:
    from bihrnet_edge.export.lce import Traced


class LarqRunner(Runner):
    """Runs a traced Keras model that takes and gives one image at a time, channels last."""

    name = "larq"
    batch = 1

    def __init__(self, traced: Traced, metadata: PoseMetadata) -> None:
        self.metadata = metadata
        self._traced = traced
        self._constant = import_module("tensorflow").constant
        self._input: Images | None = None
        self._output: Any = None

    def prepare(self, images: Images) -> None:
        self._input = images

    def invoke(self) -> None:
        self._output = self._traced.function(images=self._constant(self._input))

    def heatmaps(self) -> Heatmaps:
        return np.ascontiguousarray(self._output.numpy().transpose(0, 3, 1, 2))
