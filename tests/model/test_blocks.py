"""The blocks' wiring, written out a second time as formulas."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bihrnet_edge.model.blocks import BasicBlock, IRBottleneck, MSBlock, PlainBottleneck, Resample, Up, match_channels
from bihrnet_edge.model.config import PRESETS, ModelConfig, preset
from bihrnet_edge.model.hrnet import BiHRNet, Fusion
from bihrnet_edge.model.statistics import center_thresholds


@given(have=st.integers(1, 40), want=st.integers(1, 40))
def test_match_channels_loses_no_channel_and_keeps_constants(have: int, want: int) -> None:
    assert torch.allclose(match_channels(torch.ones(1, have, 1, 1), want), torch.ones(1, want, 1, 1))
    x = torch.eye(have)[:, :, None, None]  # image i holds only channel i
    y = match_channels(x, want)[:, :, 0, 0]
    assert y.shape == (have, want)
    assert (y.sum(dim=1) > 0).all()


def test_match_channels_order() -> None:
    x = torch.arange(4.0)[None, :, None, None]
    assert match_channels(x, 8).flatten().tolist() == [0, 1, 2, 3, 0, 1, 2, 3]
    assert match_channels(x, 2).flatten().tolist() == [1.0, 2.0]  # means of (0, 2) and (1, 3)
    assert match_channels(x, 3).flatten().tolist() == pytest.approx([1.5, 0.5, 1.5])  # wrapped: 0 1 2 | 3 0 1


def _randomise(module: torch.nn.Module) -> torch.nn.Module:
    torch.manual_seed(3)
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point():
            tensor.uniform_(0.2 if "var" in name else -0.6, 1.2 if "var" in name else 0.6)
    return module.eval().requires_grad_(False)


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("channels", [64, 256])
def test_ir_bottleneck_has_a_shortcut_beside_every_convolution(channels: int, binary: bool) -> None:
    block = _randomise(IRBottleneck(channels, binary=binary))
    x = torch.randn(2, channels, 4, 6)
    groups = x.reshape(2, channels // 64, 64, 4, 6).mean(dim=1)
    a = groups + block.reduce(x)
    b = a + block.spatial(a)
    c = b.repeat(1, 4, 1, 1) + block.expand(b)
    assert torch.allclose(block(x), c + x.repeat(1, 256 // channels, 1, 1), atol=1e-6)


def test_plain_bottleneck_has_one_shortcut() -> None:
    block = _randomise(PlainBottleneck(64, binary=True))
    x = torch.randn(1, 64, 4, 4)
    assert torch.allclose(block(x), block.expand(block.spatial(block.reduce(x))) + x.repeat(1, 4, 1, 1), atol=1e-6)


def test_ms_block_is_two_dilations_side_by_side_then_a_mix() -> None:
    block = _randomise(MSBlock(8, binary=True))
    assert block.near.conv.dilation == (1, 1)
    assert block.far.conv.dilation == (2, 2)
    x = torch.randn(1, 8, 6, 4)
    u = torch.empty_like(x)
    u[:, :4] = x[:, :4] + block.near(x)
    u[:, 4:] = x[:, 4:] + block.far(x)
    assert torch.allclose(block(x), u + block.mix(u), atol=1e-6)


def test_ms_block_costs_one_basic_block() -> None:
    def macs(block: torch.nn.Module) -> int:
        return sum(p.numel() for n, p in block.named_parameters() if n.endswith("conv.weight"))

    assert macs(MSBlock(32, binary=True)) == macs(BasicBlock(32, binary=True))


def test_down_step_stands_beside_pooling_and_tiling() -> None:
    step = _randomise(Resample(4, 8, 3, stride=2, binary=True))
    x = torch.randn(1, 4, 6, 8)
    pooled = x.reshape(1, 4, 3, 2, 4, 2).mean(dim=(3, 5))
    assert torch.allclose(step(x), pooled.repeat(1, 2, 1, 1) + step.unit(x), atol=1e-6)


def test_up_step_repeats_pixels() -> None:
    up = _randomise(Up(8, 4, 2, binary=True))
    x = torch.randn(1, 8, 2, 3)
    expected = up.step(x).numpy().repeat(2, axis=2).repeat(2, axis=3)
    assert np.allclose(up(x).numpy(), expected)


def test_fusion_is_the_mean_of_the_branches() -> None:
    config = ModelConfig(width=4, modules=(1, 1, 1), blocks=1, bottlenecks=1)
    fusion = _randomise(Fusion(config, 2, 2))
    fine, coarse = torch.randn(1, 4, 8, 8), torch.randn(1, 8, 4, 4)
    first, second = fusion([fine, coarse])
    assert torch.allclose(first, (fine + fusion.paths[0][1](coarse)) / 2, atol=1e-6)
    assert torch.allclose(second, (fusion.paths[1][0](fine) + coarse) / 2, atol=1e-6)


@pytest.mark.parametrize("size", [(64, 32), (32, 96)])
@pytest.mark.parametrize("name", ["bihrnet-small", "hrnet-small"])
def test_heatmaps_are_a_quarter_of_the_input(name: str, size: tuple[int, int]) -> None:
    model = BiHRNet(preset(name, keypoints=14)).eval()
    with torch.no_grad():
        assert model(torch.zeros(2, 3, *size)).shape == (2, 14, size[0] // 4, size[1] // 4)


@pytest.mark.parametrize("name", sorted(n for n in PRESETS if n.startswith("bihrnet")))
def test_twin_has_the_same_parameters_without_thresholds(name: str) -> None:
    with torch.device("meta"):
        binary = BiHRNet(preset(name)).state_dict()
        twin = BiHRNet(preset(name.replace("bihrnet", "hrnet"))).state_dict()
    assert {k: v.shape for k, v in binary.items() if not k.endswith("sign.beta")} == {
        k: v.shape for k, v in twin.items()
    }
    assert any(k.endswith("sign.beta") for k in binary)


def test_every_parameter_gets_a_gradient() -> None:
    model = BiHRNet(ModelConfig(width=8, modules=(1, 1, 1), blocks=1, bottlenecks=1, keypoints=3))
    torch.manual_seed(0)
    images = torch.randn(4, 3, 64, 64)
    center_thresholds(model, images)
    model(images).square().mean().backward()
    silent = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert silent == []
