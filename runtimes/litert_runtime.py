"""LiteRT (``ai-edge-litert``), for ``.tflite`` files of built-in operators."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from bihrnet_edge.errors import UserError
from bihrnet_edge.runtimes.base import (
    Heatmaps,
    Images,
    Quantization,
    Runner,
    check_threads,
    first_line,
    is_channels_last,
    is_heatmap_channels_last,
    require_metadata,
)
from bihrnet_edge.runtimes.tflite_file import TfliteFile, read_tflite


def check_interface(file: TfliteFile) -> None:
    """A :class:`UserError` unless the file maps one channels-last image to one output."""
    if len(file.inputs) != 1 or len(file.outputs) != 1:
        raise UserError(
            f"{file.path} has {len(file.inputs)} inputs and {len(file.outputs)} outputs; a pose model has one of each."
        )
    shape, metadata = file.tensors[file.inputs[0]].shape, require_metadata(file.metadata, file.path)
    if not is_channels_last(shape, metadata, file.path, "input", prefer_last=True):
        raise UserError(f"{file.path}: its input {shape} is not (N, height, width, 3); export it again.")


def quantization_of(detail: dict[str, Any]) -> Quantization:
    """Of a tensor as the interpreter describes it."""
    scale, zero_point = detail["quantization"]
    return Quantization(np.dtype(detail["dtype"]), float(scale) or None, int(zero_point))


class LitertRunner(Runner):
    """A ``.tflite`` file without custom operators."""

    name = "litert"

    def __init__(self, model: str, threads: int = 1) -> None:
        path = Path(model)
        file = read_tflite(path)
        self.metadata = require_metadata(file.metadata, path)
        check_threads(threads)
        check_interface(file)
        if file.custom_ops:
            raise UserError(
                f"{path} uses {', '.join(sorted(file.custom_ops))}, which LiteRT does not have; use the runtime lce."
            )
        from ai_edge_litert.interpreter import Interpreter

        try:
            self._interpreter = Interpreter(model_path=str(path), num_threads=threads)
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise UserError(f"{path} cannot be loaded by LiteRT ({first_line(error)}); export it again.") from error
        self._path = path
        (source,) = self._interpreter.get_input_details()
        (target,) = self._interpreter.get_output_details()
        self.batch = int(source["shape"][0])
        self._source, self._target = source["index"], target["index"]
        self._encoding, self._decoding = quantization_of(source), quantization_of(target)
        shape = tuple(int(size) for size in target["shape"])
        self._heatmap_last = is_heatmap_channels_last(shape, self.metadata, path, prefer_last=True)

    def prepare(self, images: Images) -> None:
        """Copies into the input tensor; quantises, where the model takes integers."""
        self._interpreter.set_tensor(self._source, self._encoding.encode(images))

    def invoke(self) -> None:
        """One call of the interpreter."""
        try:
            self._interpreter.invoke()
        except RuntimeError as error:
            raise UserError(f"LiteRT failed while running {self._path} ({first_line(error)}).") from error

    def heatmaps(self) -> Heatmaps:
        """Real values, whatever the model gives."""
        output = self._decoding.decode(self._interpreter.get_tensor(self._target))
        return np.ascontiguousarray(output.transpose(0, 3, 1, 2) if self._heatmap_last else output)
