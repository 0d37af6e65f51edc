"""What an ``.onnx`` file holds: metadata through ONNX Runtime, the graph where ``onnx`` is installed."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from bihrnet_edge.errors import UserError, first_line
from bihrnet_edge.pose.metadata import METADATA_KEY, PoseMetadata
from bihrnet_edge.runtimes.base import parse_metadata


def open_session(path: Path, threads: int = 1) -> Any:
    """An ``onnxruntime.InferenceSession`` on the CPU.

    Raises:
        UserError: the file is missing, damaged or not an ONNX model.
    """
    import onnxruntime

    if not path.is_file():
        raise UserError(f"model {path} does not exist; check the path.")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors only: warnings about the graph tell a user nothing to act on
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises a dozen types that share no base class
        raise UserError(f"{path} cannot be loaded by ONNX Runtime ({first_line(error)}); export it again.") from error


def session_metadata(session: Any, path: Path) -> PoseMetadata | None:
    """Our metadata of an open session, or None where the model carries none."""
    text = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
    return None if text is None else parse_metadata(text, path)


def read_metadata(path: Path) -> PoseMetadata | None:
    """Our metadata of an ``.onnx`` file, or None where it carries none; errors as in :func:`open_session`."""
    return session_metadata(open_session(path), path)


def load_graph(path: Path, *, folded: bool = False) -> Any | None:
    """The ``onnx`` model, or None where ``onnx`` is not installed.

    Args:
        path: the file.
        folded: as ONNX Runtime simplifies it for a batch of one (constants computed, BatchNorm folded), with
            inferred shapes: what is executed, however the file was exported.

    Raises:
        UserError: the file is damaged.
    """
    try:
        import onnx
    except ImportError:
        return None
    try:
        if not folded:
            return onnx.load(str(path))
        with tempfile.TemporaryDirectory() as folder:
            simplified = Path(folder, "simplified.onnx")
            _simplify(path, simplified)
            return onnx.shape_inference.infer_shapes(onnx.load(str(simplified)), data_prop=True)
    except Exception as error:  # protobuf's, onnx's, onnxruntime's and OS errors share no base class
        raise UserError(f"{path} is not a readable ONNX model ({type(error).__name__}); export it again.") from error


def _simplify(path: Path, target: Path) -> None:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(target)
    options.log_severity_level = 3
    for value in open_session(path).get_inputs():
        for size in value.shape:
            if isinstance(size, str):
                options.add_free_dimension_override_by_name(size, 1)
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
