"""Larq Compute Engine's own interpreter, for ``.tflite`` files with its 1-bit operators.

The reference for the native delegate. On x86-64 it has no vector kernels: right, but slow. Its wheels exist for
x86-64 and macOS only.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from bihrnet_edge.errors import UserError, require_module
from bihrnet_edge.native_output import silenced_stderr
from bihrnet_edge.runtimes.base import Heatmaps, Images, Quantization, Runner, is_heatmap_channels_last
from bihrnet_edge.runtimes.pose_tflite import read_pose_model

INSTALL = 'install it with: pip install "bihrnet-edge[export]" (x86-64 and macOS; there is no wheel for Linux on ARM)'


class LceRunner(Runner):
    """A ``.tflite`` file with or without LCE's operators."""

    name = "lce"

    def __init__(self, model: str, threads: int = 1) -> None:
        file, self.metadata = read_pose_model(model, threads, "Larq Compute Engine")
        self._path = path = file.path
        os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")  # larq wants it set before tensorflow is imported
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        with silenced_stderr():
            lce = require_module("larq_compute_engine.tflite.python.interpreter", f"running {path}", INSTALL)
        try:
            interpreter = lce.Interpreter(path.read_bytes(), num_threads=threads)
        except (ValueError, RuntimeError) as error:
            raise UserError(f"{path} cannot be loaded by Larq Compute Engine; export it again.") from error
        self._wrapper = interpreter.interpreter
        self.batch = int(interpreter.input_shapes[0][0])
        self._encoding = self._quantization(
            interpreter.input_types[0], interpreter.input_scales[0], interpreter.input_zero_points[0]
        )
        self._decoding = self._quantization(
            interpreter.output_types[0], interpreter.output_scales[0], interpreter.output_zero_points[0]
        )
        shape = tuple(int(size) for size in interpreter.output_shapes[0])
        self._heatmap_last = is_heatmap_channels_last(shape, self.metadata, path, prefer_last=True)
        self._input: Any = None
        self._output: Any = None

    @staticmethod
    def _quantization(dtype: Any, scale: float | None, zero_point: int | None) -> Quantization:
        return Quantization(np.dtype(dtype), scale or None, zero_point or 0)

    def prepare(self, images: Images) -> None:
        """Quantises, where the model takes integers."""
        self._input = np.ascontiguousarray(self._encoding.encode(images))

    def invoke(self) -> None:
        """One image; the interpreter copies both tensors, microseconds beside the network."""
        try:
            (self._output,) = self._wrapper.predict([self._input])
        except RuntimeError as error:
            raise UserError(f"Larq Compute Engine failed while running {self._path}; export it again.") from error

    def heatmaps(self) -> Heatmaps:
        """Real values, whatever the model gives."""
        output = self._decoding.decode(self._output)
        return np.array(output.transpose(0, 3, 1, 2) if self._heatmap_last else output)
