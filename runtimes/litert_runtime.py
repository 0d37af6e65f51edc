"""LiteRT (``ai-edge-litert``), for ``.tflite`` files; the native delegate runs Larq Compute Engine's operators."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from bihrnet_edge.errors import UserError, first_line
from bihrnet_edge.runtimes import delegate
from bihrnet_edge.runtimes.base import Heatmaps, Images, Quantization, Runner, is_heatmap_channels_last
from bihrnet_edge.runtimes.pose_tflite import read_pose_model


def quantization_of(detail: dict[str, Any]) -> Quantization:
    """Of a tensor as the interpreter describes it."""
    scale, zero_point = detail["quantization"]
    return Quantization(np.dtype(detail["dtype"]), float(scale) or None, int(zero_point))


class LitertRunner(Runner):
    """A ``.tflite`` file with or without LCE's operators.

    Args:
        model: the file.
        threads: of one inference.
        kernel: the delegate's kernels, see :func:`bihrnet_edge.runtimes.delegate.load`.
        profile: where the delegate writes its times when the runner is closed, see
            :mod:`bihrnet_edge.runtimes.profile`.
    """

    name = "litert"

    def __init__(self, model: str, threads: int = 1, *, kernel: str | None = None, profile: Path | None = None) -> None:
        file, self.metadata = read_pose_model(model, threads, "LiteRT")
        self._path = path = file.path
        delegates: list[Any] = []
        if file.needs_lce:
            delegates, self.delegate = self._load_delegate(threads, kernel, profile)
        elif profile is not None:
            raise UserError(f"{path} has no operators of Larq Compute Engine, so that there is no delegate to profile.")
        from ai_edge_litert.interpreter import Interpreter

        try:
            # The interpreter holds on to its delegates, and lets go of them last.
            self._interpreter = Interpreter(model_path=str(path), num_threads=threads, experimental_delegates=delegates)
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise UserError(f"{path} cannot be loaded by LiteRT ({first_line(error)}); export it again.") from error
        (source,) = self._interpreter.get_input_details()
        (target,) = self._interpreter.get_output_details()
        self.batch = int(source["shape"][0])
        self._source, self._target = source["index"], target["index"]
        self._encoding, self._decoding = quantization_of(source), quantization_of(target)
        shape = tuple(int(size) for size in target["shape"])
        self._heatmap_last = is_heatmap_channels_last(shape, self.metadata, path, prefer_last=True)

    def _load_delegate(self, threads: int, kernel: str | None, profile: Path | None) -> tuple[list[Any], str]:
        try:
            loaded, kernels = delegate.load(min(threads, delegate.MAX_THREADS), kernel=kernel, profile=profile)
        except UserError as error:
            raise UserError(f"{self._path} has operators that LiteRT leaves to a delegate: {error}") from error
        return [loaded], kernels

    def prepare(self, images: Images) -> None:
        """Copies into the input tensor; quantises, where the model takes integers."""
        self._interpreter.set_tensor(self._source, self._encoding.encode(images))

    def invoke(self) -> None:
        """One call of the interpreter."""
        try:
            self._interpreter.invoke()
        except RuntimeError as error:
            raise UserError(f"LiteRT failed while running {self._path} ({first_line(error)}).") from error

    def close(self) -> None:
        """The interpreter goes first: it still uses the delegate, which then writes its profile."""
        self.__dict__.pop("_interpreter", None)
        super().close()

    def heatmaps(self) -> Heatmaps:
        """Real values, whatever the model gives."""
        output = self._decoding.decode(self._interpreter.get_tensor(self._target))
        return np.ascontiguousarray(output.transpose(0, 3, 1, 2) if self._heatmap_last else output)
