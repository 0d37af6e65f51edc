"""What every runtime for ``.tflite`` files asks of one before its own, less careful reader gets it."""

from __future__ import annotations

from pathlib import Path

from bihrnet_edge.errors import UserError
from bihrnet_edge.pose.metadata import PoseMetadata
from bihrnet_edge.runtimes.base import check_threads, is_channels_last, require_metadata
from bihrnet_edge.runtimes.tflite_file import TfliteFile, read_tflite

#: The operators of Larq Compute Engine 0.16.
LCE_OPS = frozenset({"LceQuantize", "LceBconv2d", "LceDequantize", "LceBMaxPool2d"})


def read_pose_model(model: str, threads: int, runtime: str) -> tuple[TfliteFile, PoseMetadata]:
    """Read and check a ``.tflite`` file for a runtime (``runtime`` as errors call it) that has LCE's operators.

    Raises:
        UserError: the file is damaged, not a pose model of ours, or has operators that the runtime has not; or
            ``threads`` is not 1 or more.
    """
    file = read_tflite(Path(model))
    metadata = require_metadata(file.metadata, file.path)
    check_threads(threads)
    _check_interface(file, metadata)
    if foreign := sorted(file.custom_ops - LCE_OPS):
        raise UserError(f"{file.path} uses {', '.join(foreign)}, which {runtime} does not have.")
    return file, metadata


def _check_interface(file: TfliteFile, metadata: PoseMetadata) -> None:
    """A :class:`UserError` unless the file maps one channels-last image to one output."""
    if len(file.inputs) != 1 or len(file.outputs) != 1:
        raise UserError(
            f"{file.path} has {len(file.inputs)} inputs and {len(file.outputs)} outputs; a pose model has one of each."
        )
    shape = file.tensors[file.inputs[0]].shape
    if not is_channels_last(shape, metadata, file.path, "input", prefer_last=True):
        raise UserError(f"{file.path}: its input {shape} is not (N, height, width, 3); export it again.")
