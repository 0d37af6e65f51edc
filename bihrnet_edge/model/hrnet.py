"""BiHRNet and its real-valued twin: HRNet's layout (Sun et al. 2019) over the blocks of this package."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bihrnet_edge.model.binary import SameConv2d
from bihrnet_edge.model.blocks import BLOCKS, BOTTLENECKS, Resample, Up
from bihrnet_edge.model.config import STEM_CHANNELS, STEM_LIMIT, ModelConfig


class RoundToInteger(nn.Module):
    """Nearest integer, ties to even, within :data:`STEM_LIMIT`; the gradient passes straight through."""

    def forward(self, x: Tensor) -> Tensor:
        rounded = torch.round(x).clamp(-STEM_LIMIT, STEM_LIMIT)
        return x + (rounded - x).detach() if torch.is_grad_enabled() and x.requires_grad else rounded


class StemConv(nn.Sequential):
    """Real-valued 3x3 stride-2 convolution, BatchNorm, PReLU; rounded to integers where ``integers``."""

    def __init__(self, in_channels: int, out_channels: int, *, integers: bool = False) -> None:
        super().__init__()
        self.conv = SameConv2d(in_channels, out_channels, 3, stride=2)
        self.bn = nn.BatchNorm2d(out_channels)
        self.act = nn.PReLU(out_channels)
        if integers:
            self.round = RoundToInteger()


class Fusion(nn.Module):
    """Every output branch is the mean of all input branches brought to its size.

    The mean, not HRNet's sum: without a normalisation on the shortcut path a sum doubles the signal at
    every module until the binary convolutions beside it no longer count (docs/decisions/0001).
    """

    def __init__(self, config: ModelConfig, branches: int, outputs: int) -> None:
        super().__init__()
        self.paths = nn.ModuleList(
            nn.ModuleList(self._path(config, source, target) for source in range(branches)) for target in range(outputs)
        )

    @staticmethod
    def _path(config: ModelConfig, source: int, target: int) -> nn.Module:
        channels = config.branch_channels
        if source == target:
            return nn.Identity()
        if source > target:
            return Up(channels(source), channels(target), 2 ** (source - target), binary=config.binary)
        steps = target - source
        return nn.Sequential(
            *(
                Resample(
                    channels(source),
                    channels(target if step == steps - 1 else source),
                    3,
                    stride=2,
                    binary=config.binary,
                )
                for step in range(steps)
            )
        )

    def forward(self, branches: list[Tensor]) -> list[Tensor]:
        outputs = []
        for paths in self.paths:
            total: Tensor | None = None
            for path, x in zip(paths, branches, strict=True):  # type: ignore[call-overload]
                y = path(x)
                total = y if total is None else total + y
            assert total is not None
            outputs.append(total * (1.0 / len(branches)))
        return outputs


class HighResolutionModule(nn.Module):
    """``blocks`` blocks on each branch in parallel, then fusion."""

    def __init__(self, config: ModelConfig, branches: int, outputs: int) -> None:
        super().__init__()
        block = BLOCKS[config.block]
        self.branches = nn.ModuleList(
            nn.Sequential(*(block(config.branch_channels(branch), binary=config.binary) for _ in range(config.blocks)))
            for branch in range(branches)
        )
        self.fusion = Fusion(config, branches, outputs)

    def forward(self, xs: list[Tensor]) -> list[Tensor]:
        fused: list[Tensor] = self.fusion([branch(x) for branch, x in zip(self.branches, xs, strict=True)])
        return fused


class BiHRNet(nn.Module):
    """Images ``(N, 3, H, W)``, RGB and normalised, to heatmaps ``(N, K, H/4, W/4)``; H, W multiples of 32.

    ``config.binary=False`` gives the real-valued twin: same topology and parameter names, no thresholds.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.stem = nn.Sequential(
            StemConv(3, STEM_CHANNELS, integers=config.integer_stem), StemConv(STEM_CHANNELS, STEM_CHANNELS)
        )

        bottleneck = BOTTLENECKS[config.bottleneck]
        stage1: list[nn.Module] = []
        channels = STEM_CHANNELS
        for _ in range(config.bottlenecks):
            layer = bottleneck(channels, binary=config.binary)
            stage1.append(layer)
            channels = layer.out_channels
        self.stage1 = nn.Sequential(*stage1)

        # The first transition makes two branches out of one; each later one adds a branch below the last.
        self.transition1 = nn.ModuleList(
            Resample(channels, config.branch_channels(branch), 3, stride=branch + 1, binary=config.binary)
            for branch in range(2)
        )
        self.stage2 = self._stage(2)
        self.transition2 = self._new_branch(2)
        self.stage3 = self._stage(3)
        self.transition3 = self._new_branch(3)
        self.stage4 = self._stage(4)
        self.head = nn.Conv2d(config.width, config.keypoints, 1)

    def _new_branch(self, branch: int) -> Resample:
        channels = self.config.branch_channels
        return Resample(channels(branch - 1), channels(branch), 3, stride=2, binary=self.config.binary)

    def _stage(self, branches: int) -> nn.Sequential:
        count = self.config.modules[branches - 2]
        final = branches == 4  # only the finest branch of the last module is read by the head
        return nn.Sequential(
            *(
                HighResolutionModule(self.config, branches, 1 if final and index == count - 1 else branches)
                for index in range(count)
            )
        )

    def forward(self, images: Tensor) -> Tensor:
        x = self.stage1(self.stem(images))
        xs = self.stage2([transition(x) for transition in self.transition1])
        xs = self.stage3([*xs, self.transition2(xs[-1])])
        xs = self.stage4([*xs, self.transition3(xs[-1])])
        heatmaps: Tensor = self.head(xs[0])
        return heatmaps
