"""The blocks of BiHRNet: every binary convolution stands beside a parameter-free real-valued shortcut.

``unit(x) = PReLU(BN(BConv(RSign(x))))``; in the real-valued twin ``PReLU(BN(Conv(x)))``.
Shapes are ``(N, C, H, W)``. Block wiring: docs/model.md.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bihrnet_edge.model.binary import BinaryConv2d, RSign, SameConv2d
from bihrnet_edge.model.config import BOTTLENECK_CHANNELS, BOTTLENECK_EXPANSION, BlockName, BottleneckName


def match_channels(x: Tensor, channels: int) -> Tensor:
    """Change the number of channels without parameters and without losing any.

    More channels: tile. Fewer: the mean of groups, channel ``j`` being the mean of ``x[j::channels]``.
    Where ``channels`` does not divide, the first channels are wrapped around to fill the last group.
    """
    have = int(x.shape[1])
    if have == channels:
        return x
    repeats = -(-max(have, channels) // min(have, channels))
    if channels > have:
        return torch.cat([x] * repeats, dim=1)[:, :channels]
    if have % channels:
        x = torch.cat([x, x[:, : channels * repeats - have]], dim=1)
    total = x[:, :channels]
    for group in range(1, repeats):
        total = total + x[:, group * channels : (group + 1) * channels]
    return total * (1.0 / repeats)


class Unit(nn.Module):
    """RSign, binary convolution, BatchNorm, PReLU; without RSign and with an ordinary one in the twin."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        binary: bool,
        stride: int = 1,
        dilation: int = 1,
    ) -> None:
        super().__init__()
        conv = BinaryConv2d if binary else SameConv2d
        self.sign = RSign(in_channels) if binary else None
        self.conv = conv(in_channels, out_channels, kernel_size, stride=stride, dilation=dilation)
        self.bn = nn.BatchNorm2d(out_channels)
        self.act = nn.PReLU(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        if self.sign is not None:
            x = self.sign(x)
        y: Tensor = self.act(self.bn(self.conv(x)))
        return y


class IRBottleneck(nn.Module):
    """Stage-1 bottleneck C -> 64 -> 64 -> 256 with a real-valued shortcut beside every convolution."""

    def __init__(self, in_channels: int, *, binary: bool) -> None:
        super().__init__()
        planes = BOTTLENECK_CHANNELS
        self.out_channels = planes * BOTTLENECK_EXPANSION
        self.reduce = Unit(in_channels, planes, 1, binary=binary)
        self.spatial = Unit(planes, planes, 3, binary=binary)
        self.expand = Unit(planes, self.out_channels, 1, binary=binary)

    def forward(self, x: Tensor) -> Tensor:
        a = match_channels(x, BOTTLENECK_CHANNELS) + self.reduce(x)
        b = a + self.spatial(a)
        c = match_channels(b, self.out_channels) + self.expand(b)
        y: Tensor = c + match_channels(x, self.out_channels)
        return y


class PlainBottleneck(IRBottleneck):
    """The same three convolutions with HRNet's single shortcut around them: the ablation's baseline."""

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.expand(self.spatial(self.reduce(x)))
        return y + match_channels(x, self.out_channels)


class MSBlock(nn.Module):
    """Two scales for the price of one basic block: half the channels at dilation 1, half at 2, then 3x3."""

    def __init__(self, channels: int, *, binary: bool) -> None:
        super().__init__()
        half = channels // 2
        self.near = Unit(channels, half, 3, binary=binary)
        self.far = Unit(channels, half, 3, binary=binary, dilation=2)
        self.mix = Unit(channels, channels, 3, binary=binary)

    def forward(self, x: Tensor) -> Tensor:
        u = x + torch.cat([self.near(x), self.far(x)], dim=1)
        y: Tensor = u + self.mix(u)
        return y


class BasicBlock(nn.Module):
    """Two 3x3 units, each with its shortcut: the ablation's baseline."""

    def __init__(self, channels: int, *, binary: bool) -> None:
        super().__init__()
        self.first = Unit(channels, channels, 3, binary=binary)
        self.second = Unit(channels, channels, 3, binary=binary)

    def forward(self, x: Tensor) -> Tensor:
        u = x + self.first(x)
        y: Tensor = u + self.second(u)
        return y


class Resample(nn.Module):
    """One step between branches: ``C -> channels`` at stride 1 or 2, with its parameter-free shortcut."""

    def __init__(self, in_channels: int, channels: int, kernel_size: int, *, stride: int, binary: bool) -> None:
        super().__init__()
        self.channels = channels
        self.stride = stride
        self.unit = Unit(in_channels, channels, kernel_size, stride=stride, binary=binary)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = F.avg_pool2d(x, self.stride) if self.stride > 1 else x
        y: Tensor = match_channels(shortcut, self.channels) + self.unit(x)
        return y


class Up(nn.Module):
    """A 1x1 step to a finer branch's channels, then nearest upsampling by ``factor``."""

    def __init__(self, in_channels: int, channels: int, factor: int, *, binary: bool) -> None:
        super().__init__()
        self.factor = factor
        self.step = Resample(in_channels, channels, 1, stride=1, binary=binary)

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(self.step(x), scale_factor=float(self.factor), mode="nearest")


BLOCKS: dict[BlockName, type[MSBlock] | type[BasicBlock]] = {"ms": MSBlock, "basic": BasicBlock}
BOTTLENECKS: dict[BottleneckName, type[IRBottleneck]] = {"ir": IRBottleneck, "plain": PlainBottleneck}
