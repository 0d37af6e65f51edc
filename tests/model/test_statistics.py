"""Statistics fitted to images are those of what each BatchNorm sees."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from bihrnet_edge.model.config import ModelConfig
from bihrnet_edge.model.hrnet import BiHRNet
from bihrnet_edge.model.statistics import reestimate_batchnorm


def test_every_norm_gets_what_it_sees() -> None:
    """Against ``mean`` and ``var`` of its inputs, batch by batch, over a whole network."""
    torch.manual_seed(3)
    model = BiHRNet(ModelConfig(width=8, modules=(1, 1, 1), blocks=1, bottlenecks=1, keypoints=3)).eval()
    norms = {name: module for name, module in model.named_modules() if isinstance(module, nn.BatchNorm2d)}
    seen: dict[str, list[Tensor]] = {name: [] for name in norms}
    for name, norm in norms.items():
        norm.register_forward_pre_hook(lambda module, inputs, into=seen[name]: into.append(inputs[0].detach().double()))
    constant = reestimate_batchnorm(model, [torch.randn(count, 3, 64, 64) for count in (4, 3, 4)])
    assert not model.training
    assert sum(len(inputs) for inputs in seen.values()) == 3 * len(norms)
    still = 0
    for name, norm in norms.items():
        means = torch.stack([x.mean(dim=(0, 2, 3)) for x in seen[name]]).mean(dim=0)
        variances = torch.stack([x.var(dim=(0, 2, 3)) for x in seen[name]]).mean(dim=0)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        moved = variances > 0
        still += int((~moved).sum())
        torch.testing.assert_close(norm.running_mean.double()[moved], means[moved], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(norm.running_var.double()[moved], variances[moved], rtol=1e-4, atol=1e-6)
    assert constant == still


@given(st.lists(st.booleans(), min_size=1, max_size=8), st.floats(-3, 3))
def test_constant_channels_keep_theirs(varies: list[bool], value: float) -> None:
    norm = nn.BatchNorm2d(len(varies))
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.running_mean.fill_(0.5)
    norm.running_var.fill_(2.0)
    images = torch.full((2, len(varies), 4, 4), value)
    for channel, moves in enumerate(varies):
        if moves:
            images[:, channel, 0] = value + 1.0
    assert reestimate_batchnorm(norm, [images, images]) == len(varies) - sum(varies)
    assert norm.momentum == nn.BatchNorm2d(1).momentum
    for channel, moves in enumerate(varies):
        kept = (float(norm.running_mean[channel]), float(norm.running_var[channel])) == (0.5, 2.0)
        assert kept is not moves
