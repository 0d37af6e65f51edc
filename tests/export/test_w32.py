"""The paper's scale: every binary convolution arrives, the file is small, and it computes what torch computes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from export_helpers import run_lce, run_onnx, run_torch

from bihrnet_edge.calibration.verification import synthetic_images
from bihrnet_edge.export.larq_model import build_larq_model
from bihrnet_edge.export.lce import check_binary_ops, convert_to_lce
from bihrnet_edge.export.onnx_model import export_onnx
from bihrnet_edge.export.tflite_graph import count_ops
from bihrnet_edge.export.tflite_metadata import embed_metadata
from bihrnet_edge.model.checkpoint import random_checkpoint
from bihrnet_edge.model.config import preset
from bihrnet_edge.pose.keypoints import COCO
from bihrnet_edge.runtimes.delegate import find_library
from bihrnet_edge.runtimes.registry import open_runner


@pytest.mark.slow
@pytest.mark.thorough
def test_w32_exports_to_lce(tmp_path: Path) -> None:
    checkpoint = random_checkpoint(preset("bihrnet-w32"), name="w32", keypoints=COCO, input_size=(256, 192), seed=0)
    data = embed_metadata(
        convert_to_lce(build_larq_model(checkpoint.config, checkpoint.state, 256, 192)), checkpoint.metadata
    )
    check_binary_ops(data, checkpoint.config)
    assert count_ops(data)["LceBconv2d"] == sum(name.endswith("sign.beta") for name in checkpoint.state)
    assert len(data) <= 5_000_000
    image = synthetic_images(checkpoint.metadata, 1)
    expected, got = run_torch(checkpoint.build(), image), run_lce(data, image)
    assert np.corrcoef(expected.ravel(), got.ravel())[0, 1] >= 0.999
    if find_library() is not None:
        path = tmp_path / "w32.lce.tflite"
        path.write_bytes(data)
        with open_runner(str(path), 2, "litert") as native:
            heatmaps = native.run(image).transpose(0, 2, 3, 1)
        assert np.corrcoef(got.ravel(), heatmaps.ravel())[0, 1] >= 0.9999


@pytest.mark.slow
@pytest.mark.thorough
def test_w32_is_a_small_onnx() -> None:
    checkpoint = random_checkpoint(preset("bihrnet-w32"), name="w32", keypoints=COCO, input_size=(256, 192), seed=0)
    network = checkpoint.build()
    data = export_onnx(network, checkpoint.metadata)
    assert len(data) <= 6_000_000
    kernels = [node for node in onnx.load_model_from_string(data).graph.node if node.op_type == "Where"]
    assert len(kernels) == sum(name.endswith("sign.beta") for name in checkpoint.state)
    image = synthetic_images(checkpoint.metadata, 1)
    assert np.corrcoef(run_torch(network, image).ravel(), run_onnx(data, image).ravel())[0, 1] >= 0.999
