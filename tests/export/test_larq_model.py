"""PyTorch, Keras, LCE and ONNX compute the same: accumulators of single units exactly, blocks to rounding."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from export_helpers import (
    SMALL,
    FloatArray,
    SmallExport,
    part_to_keras,
    random_network,
    randomise,
    run_lce,
    run_onnx,
    run_torch,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from bihrnet_edge.errors import UserError
from bihrnet_edge.export.folding import fold
from bihrnet_edge.export.larq_model import LarqBuilder, build_larq_model
from bihrnet_edge.export.lce import convert_to_lce
from bihrnet_edge.export.onnx_model import trace_to_onnx
from bihrnet_edge.model.binary import hard_sign, magnitude_aware_sign, pad_same
from bihrnet_edge.model.blocks import IRBottleneck, MSBlock, Resample, Unit, match_channels
from bihrnet_edge.model.config import ModelConfig


def assert_close(actual: FloatArray, expected: FloatArray, tolerance: float = 1e-5) -> None:
    """Equal to ``tolerance`` of the expected values' range."""
    assert actual.shape == expected.shape
    assert np.abs(actual - expected).max() <= tolerance * np.ptp(expected)


@settings(max_examples=12, deadline=None, derandomize=True)
@given(
    kernel_stride_dilation=st.sampled_from([(3, 1, 1), (3, 2, 1), (3, 1, 2), (1, 1, 1)]),
    in_channels=st.sampled_from([24, 32, 48, 64, 96]),
    out_channels=st.sampled_from([16, 32, 48]),
    height=st.integers(2, 9),
    width=st.integers(2, 9),
    seed=st.integers(0, 2**16),
)
def test_accumulators_are_equal_integers(
    kernel_stride_dilation: tuple[int, int, int],
    in_channels: int,
    out_channels: int,
    height: int,
    width: int,
    seed: int,
) -> None:
    """Values, thresholds and weights on a coarse grid, so that many signs are of exactly 0: all runtimes say +1.

    BatchNorm undoes the scale and PReLU is the identity, so that the outputs are the integer accumulators.
    """
    kernel, stride, dilation = kernel_stride_dilation
    rng = np.random.default_rng(seed)
    unit = Unit(in_channels, out_channels, kernel, binary=True, stride=stride, dilation=dilation).eval()
    assert unit.sign is not None
    with torch.no_grad():
        unit.sign.beta.copy_(torch.from_numpy(rng.integers(-1, 2, in_channels) / 2))
        unit.conv.weight.copy_(torch.from_numpy(rng.integers(-1, 2, tuple(unit.conv.weight.shape))))
        unit.bn.weight.copy_(1.0 / unit.conv.weight.abs().mean(dim=(1, 2, 3)))
        unit.act.weight.fill_(1.0)
    x = (rng.integers(-2, 3, (1, height, width, in_channels)) / 2).astype(np.float32)

    signs = hard_sign(torch.from_numpy(x).permute(0, 3, 1, 2).double() - unit.sign.beta[:, None, None].double())
    accumulators = nn.functional.conv2d(
        pad_same(signs, kernel, stride, dilation, 1.0), hard_sign(unit.conv.weight).double(), None, stride, 0, dilation
    )
    expected = accumulators.permute(0, 2, 3, 1).detach().numpy()

    def make(builder: LarqBuilder, source: Any) -> Any:
        return builder.unit(source, "m", out_channels, kernel, stride=stride, dilation=dilation)

    keras = part_to_keras(unit, (height, width, in_channels), make)
    onnx = trace_to_onnx(fold(nn.Sequential(unit)), (in_channels, height, width))
    for actual in (run_torch(unit, x), keras(x).numpy(), run_lce(convert_to_lce(keras), x), run_onnx(onnx, x)):
        np.testing.assert_array_equal(np.rint(actual), expected)
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-2)


def test_magnitude_aware_sign_is_larqs() -> None:
    import larq

    kernel = np.random.default_rng(0).standard_normal((48, 64, 3, 3), np.float32)
    kernel[0, :9] = 0.0
    kernel[1, :9] = -0.0
    ours = magnitude_aware_sign(torch.from_numpy(kernel)).permute(2, 3, 1, 0).numpy()
    theirs = larq.quantizers.MagnitudeAwareSign()(kernel.transpose(2, 3, 1, 0)).numpy()
    np.testing.assert_array_equal(np.sign(theirs), np.sign(ours))
    np.testing.assert_allclose(theirs, ours, rtol=1e-6)


Case = tuple[nn.Module, int, Callable[[LarqBuilder, Any], Any]]
BLOCKS: dict[str, Case] = {
    "bottleneck": (IRBottleneck(64, binary=True), 64, lambda b, x: b.bottleneck(x, "m")),
    "bottleneck, identity": (IRBottleneck(256, binary=True), 256, lambda b, x: b.bottleneck(x, "m")),
    "MS-Block": (MSBlock(32, binary=True), 32, lambda b, x: b.block(x, "m")),
    "down": (Resample(32, 64, 3, stride=2, binary=True), 32, lambda b, x: b.resample(x, "m", 64, 3, stride=2)),
    "up": (Resample(128, 32, 1, stride=1, binary=True), 128, lambda b, x: b.resample(x, "m", 32, 1)),
    "down, 48": (Resample(256, 48, 3, stride=1, binary=True), 256, lambda b, x: b.resample(x, "m", 48, 3)),
}


@pytest.mark.parametrize("name", BLOCKS)
def test_blocks_agree(name: str) -> None:
    module, channels, make = BLOCKS[name]
    randomise(module.eval(), seed=1)
    x = np.random.default_rng(2).standard_normal((1, 8, 8, channels), np.float32)
    expected = run_torch(module, x)
    keras = part_to_keras(module, (8, 8, channels), make)
    assert_close(keras(x).numpy(), expected)
    assert_close(run_lce(convert_to_lce(keras), x), expected)
    assert_close(run_onnx(trace_to_onnx(fold(module), (channels, 8, 8)), x), expected)


@pytest.mark.parametrize(("have", "want"), [(64, 256), (256, 64), (256, 48), (256, 96), (10, 24), (7, 7)])
def test_match_channels_agrees_to_the_bit(have: int, want: int) -> None:
    x = np.random.default_rng(0).standard_normal((1, 2, 3, have), np.float32)
    expected = match_channels(torch.from_numpy(x).permute(0, 3, 1, 2), want).permute(0, 2, 3, 1).numpy()
    keras = part_to_keras(nn.Module(), (2, 3, have), lambda builder, source: builder.match_channels(source, want))
    np.testing.assert_array_equal(keras(x).numpy(), expected)


def test_whole_network_agrees(small: SmallExport) -> None:
    assert_close(small.keras(small.images).numpy(), small.heatmaps)
    assert_close(run_lce(small.lce, small.images), small.heatmaps)


def test_leftover_tensor_is_refused() -> None:
    state = random_network(SMALL).state_dict()
    state["stage9.beta"] = torch.zeros(1)
    with pytest.raises(UserError, match=r"stage9\.beta"):
        build_larq_model(SMALL, state, 32, 32)


def test_missing_tensor_is_refused() -> None:
    state = random_network(SMALL).state_dict()
    del state["stage1.0.spatial.sign.beta"]
    with pytest.raises(UserError, match=r"stage1\.0\.spatial\.sign\.beta"):
        build_larq_model(SMALL, state, 32, 32)


def test_weights_of_another_width_are_refused() -> None:
    state = random_network(ModelConfig(**(SMALL.to_dict() | {"width": 16, "modules": (1, 1, 1)}))).state_dict()
    with pytest.raises(UserError, match=r"transition1\.0\.unit\.conv\.weight.*shape"):
        build_larq_model(SMALL, state, 32, 32)


@pytest.mark.parametrize(("height", "width"), [(48, 32), (32, 0), (32, 33)])
def test_size_must_be_a_multiple_of_32(height: int, width: int) -> None:
    with pytest.raises(UserError, match="multiple of 32"):
        build_larq_model(SMALL, {}, height, width)
