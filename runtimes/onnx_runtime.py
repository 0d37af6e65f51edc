"""ONNX Runtime on the CPU, for ``.onnx`` files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from bihrnet_edge.errors import UserError, first_line
from bihrnet_edge.runtimes.base import (
    Heatmaps,
    Images,
    Runner,
    check_threads,
    is_channels_last,
    is_heatmap_channels_last,
    require_metadata,
)
from bihrnet_edge.runtimes.onnx_file import open_session, session_metadata


class OnnxRunner(Runner):
    """An ``.onnx`` file; inputs and outputs may be channels-first or channels-last."""

    name = "onnxruntime"

    def __init__(self, model: str, threads: int = 1) -> None:
        path = Path(model)
        self._session = open_session(path, check_threads(threads))
        self.metadata = require_metadata(session_metadata(self._session, path), path)
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if len(inputs) != 1 or len(outputs) != 1 or inputs[0].type != "tensor(float)":
            raise UserError(f"{path} does not map one float image to one output; export it again.")
        self._name = inputs[0].name
        self._path = path
        self._channels_last = is_channels_last(tuple(inputs[0].shape), self.metadata, path, "input", prefer_last=False)
        self._heatmap_last = is_heatmap_channels_last(tuple(outputs[0].shape), self.metadata, path, prefer_last=False)
        self.batch = inputs[0].shape[0] if isinstance(inputs[0].shape[0], int) else None
        self._input: Any = None
        self._output: Any = None

    def prepare(self, images: Images) -> None:
        """Channels first, where the model wants that."""
        self._input = images if self._channels_last else np.ascontiguousarray(images.transpose(0, 3, 1, 2))

    def invoke(self) -> None:
        """One call of the session."""
        try:
            (self._output,) = self._session.run(None, {self._name: self._input})
        except Exception as error:  # onnxruntime raises a dozen types that share no base class
            raise UserError(
                f"ONNX Runtime failed while running {self._path} ({first_line(error)}); export it again."
            ) from error

    def heatmaps(self) -> Heatmaps:
        """Channels first, whatever the model gives."""
        output = self._output.transpose(0, 3, 1, 2) if self._heatmap_last else self._output
        return np.array(output, np.float32)
