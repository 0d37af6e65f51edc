"""Any configuration: PyTorch, Keras, LCE and ONNX give the same heatmaps."""

from __future__ import annotations

import numpy as np
import pytest
from export_helpers import FloatArray, run_lce, run_onnx, run_torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bihrnet_edge.export.larq_model import build_larq_model
from bihrnet_edge.export.lce import check_binary_ops, convert_to_lce
from bihrnet_edge.export.onnx_model import export_onnx
from bihrnet_edge.model.checkpoint import random_checkpoint
from bihrnet_edge.model.config import ModelConfig
from bihrnet_edge.pose.keypoints import KeypointSet

#: The dimensions that choose code: each pair once, then depth, a width that is no power of two, and the twin.
CASES = {
    "basic-plain": (ModelConfig(16, (1, 1, 1), 1, 1, 4, block="basic", bottleneck="plain"), 32),
    "basic-ir": (ModelConfig(16, (1, 1, 1), 1, 2, 3, block="basic", bottleneck="ir"), 64),
    "ms-plain": (ModelConfig(32, (1, 1, 1), 1, 2, 5, block="ms", bottleneck="plain"), 32),
    "ms-ir": (ModelConfig(16, (1, 1, 1), 1, 1, 17, block="ms", bottleneck="ir"), 64),
    "deep": (ModelConfig(16, (1, 2, 2), 2, 1, 4, block="basic", bottleneck="ir"), 32),
    "w48": (ModelConfig(48, (1, 1, 1), 1, 1, 4, block="ms", bottleneck="ir"), 32),
    "twin": (ModelConfig(16, (1, 1, 1), 1, 1, 4, block="ms", bottleneck="ir", binary=False), 32),
}
#: Of each dimension both values.
FIRST = ("ms-plain", "deep")


def correlation(a: FloatArray, b: FloatArray) -> float:
    assert a.shape == b.shape
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


def check(config: ModelConfig, height: int, width: int, seed: int) -> None:
    """By correlation, as one sign that rounding flips near its threshold spreads over the whole heatmap."""
    joints = KeypointSet("joints", tuple(f"joint_{k}" for k in range(config.keypoints)))
    checkpoint = random_checkpoint(config, name="test", keypoints=joints, input_size=(height, width), seed=seed)
    model = checkpoint.build()
    images = np.random.default_rng(seed).standard_normal((1, height, width, 3), np.float32)
    expected = run_torch(model, images)

    keras = build_larq_model(config, model.state_dict(), height, width)
    data = convert_to_lce(keras)
    check_binary_ops(data, config)
    onnx = export_onnx(model, checkpoint.metadata)

    assert correlation(keras(images).numpy(), expected) >= 0.999
    assert correlation(run_lce(data, images), expected) >= 0.999
    assert correlation(run_onnx(onnx, images), expected) >= 0.999


@pytest.mark.slow
@pytest.mark.parametrize(
    "case", [case if case in FIRST else pytest.param(case, marks=pytest.mark.thorough) for case in CASES]
)
def test_all_formats_agree(case: str) -> None:
    config, height = CASES[case]
    check(config, height, 32, seed=1)


@pytest.mark.slow
@settings(max_examples=2, deadline=None, derandomize=True, database=None)
@given(
    # The first draw takes each first element.
    config=st.builds(
        ModelConfig,
        width=st.sampled_from([40, 16, 32]),
        modules=st.just((1, 1, 1)),
        blocks=st.just(1),
        bottlenecks=st.integers(1, 2),
        keypoints=st.integers(1, 21),
        block=st.sampled_from(["ms", "basic"]),
        bottleneck=st.sampled_from(["ir", "plain"]),
    ),
    size=st.sampled_from([(64, 32), (32, 64)]),
    seed=st.integers(0, 2**16),
)
def test_formats_agree_for_drawn_configurations(config: ModelConfig, size: tuple[int, int], seed: int) -> None:
    print(config, size, seed)  # pytest shows it where the test fails
    check(config, *size, seed)
