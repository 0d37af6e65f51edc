"""Binary layers: signs forward, straight-through estimators backward.

Values are kept as +1/-1 floats here; :mod:`bihrnet_edge.model.checkpoint` and the exporters turn
them into bits. ``sign(0) = +1`` everywhere, as in Larq and Larq Compute Engine.
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def hard_sign(x: Tensor) -> Tensor:
    """Elementwise sign with ``sign(0) = +1``; no gradient."""
    return torch.where(x >= 0, 1.0, -1.0).to(x.dtype)


def _copied_sign(x: Tensor) -> Tensor:
    """The same several times as fast, for training: ONNX has no such operator."""
    return torch.copysign(x.new_ones(()), x + 0.0)  # adding zero makes +0 of -0


class _ApproxSign(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return _copied_sign(x)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        slope: Tensor = x.abs().mul_(-2.0).add_(2.0).clamp_min_(0.0)
        return slope.mul_(grad_outputs[0])


def approx_sign(x: Tensor) -> Tensor:
    """Sign whose gradient is that of a piecewise polynomial: ``2 - 2|x|`` inside [-1, 1], else 0.

    Source: Bi-Real Net (Liu et al. 2018), section 3.3; Larq's ``approx_sign``.
    """
    if torch.is_grad_enabled() and x.requires_grad:
        return cast(Tensor, _ApproxSign.apply(x))  # type: ignore[no-untyped-call]
    return hard_sign(x)


class _SteSign(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, w: Tensor) -> Tensor:
        ctx.save_for_backward(w)
        return _copied_sign(w)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Tensor:
        (w,) = ctx.saved_tensors
        inside: Tensor = w.abs().le_(1.0)  # 0 or 1 as floats: a product with booleans converts them first
        return inside.mul_(grad_outputs[0])


def magnitude_aware_sign(w: Tensor) -> Tensor:
    """``sign(w) * mean|w|`` per output channel of a ``(O, I, H, W)`` kernel; mean|w| gets no gradient.

    Source: Bi-Real Net (Liu et al. 2018), section 3.3; Larq's ``magnitude_aware_sign``.
    """
    scale = w.detach().abs().mean(dim=(1, 2, 3), keepdim=True)
    learning = torch.is_grad_enabled() and w.requires_grad
    sign = cast(Tensor, _SteSign.apply(w)) if learning else hard_sign(w)  # type: ignore[no-untyped-call]
    return scale * sign


def same_padding(size: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    """TensorFlow's ``SAME`` padding (before, after) along one axis of ``size`` pixels.

    For kernel 3, stride 2 and an even size that is (0, 1), not torch's (1, 1).
    """
    reach = (kernel - 1) * dilation + 1
    total = max((-(-size // stride) - 1) * stride + reach - size, 0)
    return total // 2, total - total // 2


def pad_same(x: Tensor, kernel: int, stride: int, dilation: int, value: float) -> Tensor:
    """Pad ``(N, C, H, W)`` by TensorFlow's ``SAME`` amounts with a constant."""
    top, bottom = same_padding(int(x.shape[-2]), kernel, stride, dilation)
    left, right = same_padding(int(x.shape[-1]), kernel, stride, dilation)
    if top == bottom == left == right == 0:
        return x
    return F.pad(x, (left, right, top, bottom), value=value)


class RSign(nn.Module):
    """``sign(x - beta)`` with one learnable threshold a channel (ReActNet, Liu et al. 2020)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.beta = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return approx_sign(x - self.beta[:, None, None])


class SameConv2d(nn.Conv2d):
    """Convolution with TensorFlow's ``SAME`` zero padding."""

    pad_value = 0.0

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        bias: bool = False,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride=stride, dilation=dilation, bias=bias)

    def kernel(self) -> Tensor:
        """The ``(O, I, H, W)`` kernel that is convolved with."""
        return self.weight

    def forward(self, x: Tensor) -> Tensor:
        kernel, stride, dilation = self.kernel_size[0], self.stride[0], self.dilation[0]
        padding = same_padding(int(x.shape[-2]), kernel, stride, dilation)
        if self.pad_value == 0.0 and padding == same_padding(int(x.shape[-1]), kernel, stride, dilation):
            before, after = padding
            if before == after:  # symmetric zeros: the convolution pads by itself, one copy less
                return F.conv2d(x, self.kernel(), self.bias, stride, before, dilation)
        return F.conv2d(
            pad_same(x, kernel, stride, dilation, self.pad_value), self.kernel(), self.bias, stride, 0, dilation
        )


class BinaryConv2d(SameConv2d):
    """Convolution of +-1 activations with ``sign(w) * mean|w|``, padded with +1 by ``SAME`` amounts.

    +1 is a value that a bit can hold: Larq Compute Engine's fast path (``pad_values=1``).
    """

    pad_value = 1.0
    #: False while a training phase still convolves with the real-valued latent weights.
    binarize = True

    def kernel(self) -> Tensor:
        return magnitude_aware_sign(self.weight) if self.binarize else self.weight
