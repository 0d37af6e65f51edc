"""BiHRNet to ONNX for stock ONNX Runtime, without custom operators."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path

import torch
from torch import nn

from bihrnet_edge.errors import UserError
from bihrnet_edge.export.folding import fold
from bihrnet_edge.export.onnx_form import Weights
from bihrnet_edge.model.config import INPUT_MULTIPLE
from bihrnet_edge.model.hrnet import BiHRNet
from bihrnet_edge.pose.metadata import METADATA_KEY, PoseMetadata

try:
    import onnx
except ImportError as missing:
    raise UserError("exporting to ONNX needs the package 'onnx'; run: pip install 'bihrnet-edge[export]'.") from missing

from bihrnet_edge.export.onnx_packing import pack_binary_weights

INPUT_NAME = "images"
OUTPUT_NAME = "heatmaps"
#: Old enough for every ONNX Runtime since 1.12, new enough for all operators used.
OPSET = 17


def export_onnx(model: BiHRNet, metadata: PoseMetadata, weights: Weights = "packed") -> bytes:
    """An ONNX model with input ``images`` (N, 3, H, W) and output ``heatmaps`` (N, K, H/4, W/4), float32.

    The batch N is free, H and W are the metadata's. Signs are a comparison, and weights are constants with
    BatchNorm folded in: see :mod:`bihrnet_edge.export.folding`.

    Args:
        model: the network, binary or the real-valued twin; it is not changed.
        metadata: written to ``metadata_props`` as JSON under ``METADATA_KEY``; names as many keypoints as the model.
        weights: ``packed`` stores binary kernels as bits (:mod:`bihrnet_edge.export.onnx_packing`); a real-valued
            model has none, and is the same either way.

    Returns:
        The serialised, checked model; the same bytes for the same weights.

    Raises:
        UserError: metadata and model do not belong together.
    """
    height, width = metadata.input_height, metadata.input_width
    if height % INPUT_MULTIPLE or width % INPUT_MULTIPLE:
        raise UserError(
            f"model {metadata.name!r}: input is {width}x{height}; give multiples of {INPUT_MULTIPLE} pixels."
        )
    if len(metadata.keypoints) != model.config.keypoints:
        raise UserError(
            f"model {metadata.name!r} has {model.config.keypoints} heatmaps, its keypoint set "
            f"{metadata.keypoints.name!r} {len(metadata.keypoints)} joints; give the set that it was trained with."
        )
    proto = onnx.load_model_from_string(trace_to_onnx(fold(model), (3, height, width)))
    if weights == "packed":
        pack_binary_weights(proto)
    proto.producer_name, proto.producer_version = "bihrnet-edge", ""
    onnx.helper.set_model_props(proto, {METADATA_KEY: metadata.to_json()})
    onnx.checker.check_model(proto, full_check=True)
    data: bytes = proto.SerializeToString(deterministic=True)
    return data


def trace_to_onnx(model: nn.Module, shape: tuple[int, int, int]) -> bytes:
    """A folded module as bare ONNX, for inputs ``(N, *shape)``; :func:`export_onnx` checks it and adds the metadata."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        file = Path(folder) / "model.onnx"
        # The other exporter (dynamo=True) needs onnxscript, and cannot express SAME padding as one node.
        warnings.filterwarnings("ignore", message=".*legacy TorchScript-based ONNX export", category=DeprecationWarning)
        # Python numbers are meant to become constants: only the batch is dynamic.
        warnings.filterwarnings("ignore", message="Converting a tensor to a Python")
        warnings.filterwarnings("ignore", message="Constant folding")
        warnings.filterwarnings("ignore", message="The feature will be removed", category=DeprecationWarning)
        torch.onnx.export(
            model,
            (torch.zeros(1, *shape),),
            file,
            dynamo=False,
            opset_version=OPSET,
            input_names=[INPUT_NAME],
            output_names=[OUTPUT_NAME],
            dynamic_axes={INPUT_NAME: {0: "N"}, OUTPUT_NAME: {0: "N"}},
        )
        return file.read_bytes()
