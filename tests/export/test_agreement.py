"""Any configuration: PyTorch, Keras, LCE and ONNX give the same heatmaps."""

from __future__ import annotations

import numpy as np
import pytest
from export_helpers import FloatArray, random_network, run_lce, run_onnx, run_torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bihrnet_edge.export.larq_model import build_larq_model
from bihrnet_edge.export.lce import check_binary_ops, convert_to_lce
from bihrnet_edge.export.onnx_model import export_onnx
from bihrnet_edge.model.config import ModelConfig
from bihrnet_edge.pose.keypoints import KeypointSet
from bihrnet_edge.pose.metadata import PoseMetadata

CONFIGS = st.builds(
    ModelConfig,
    width=st.sampled_from([16, 32, 40, 48]),
    modules=st.just((1, 1, 1)),
    blocks=st.integers(1, 2),
    bottlenecks=st.integers(1, 2),
    keypoints=st.integers(1, 21),
    block=st.sampled_from(["ms", "basic"]),
    bottleneck=st.sampled_from(["ir", "plain"]),
    binary=st.sampled_from([True, True, True, False]),
)
SIDES = st.sampled_from([32, 64])


def correlation(a: FloatArray, b: FloatArray) -> float:
    assert a.shape == b.shape
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


@pytest.mark.slow
@settings(max_examples=4, deadline=None, derandomize=True)
@given(config=CONFIGS, height=SIDES, width=SIDES, seed=st.integers(0, 2**16))
def test_all_formats_agree(config: ModelConfig, height: int, width: int, seed: int) -> None:
    """By correlation, as one sign that rounding flips near its threshold spreads over the whole heatmap."""
    model = random_network(config, seed)
    images = np.random.default_rng(seed).standard_normal((1, height, width, 3), np.float32)
    expected = run_torch(model, images)

    keras = build_larq_model(config, model.state_dict(), height, width)
    data = convert_to_lce(keras)
    check_binary_ops(data, config)
    joints = KeypointSet("joints", tuple(f"joint_{k}" for k in range(config.keypoints)))
    onnx = export_onnx(model, PoseMetadata("test", height, width, joints))

    assert correlation(keras(images).numpy(), expected) >= 0.999
    assert correlation(run_lce(data, images), expected) >= 0.999
    assert correlation(run_onnx(onnx, images), expected) >= 0.999
