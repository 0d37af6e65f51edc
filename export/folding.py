"""A PyTorch network rewritten for inference: each binary unit becomes a comparison, one convolution and a PReLU.

With ``t = 1`` where ``x < beta`` and else 0, the sign of an RSign is ``1 - 2t``, so that

    conv(sign, w) = sum(w) + conv(t, -2w)

and what pads with +1 on the left pads with 0 on the right: the padding that every runtime has built into its
convolution. BatchNorm, ``mean|w|`` and ``sum(w)`` go into the kernel and the bias.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bihrnet_edge.model.binary import SameConv2d, same_padding
from bihrnet_edge.model.blocks import Unit
from bihrnet_edge.model.hrnet import StemConv

Network = TypeVar("Network", bound=nn.Module)


class _ZeroPaddedConv(torch.autograd.Function):
    """Convolution padded with zeros, by another amount on each side: one node in ONNX, where torch's has a Pad before.

    ``pads`` is in ONNX's order: top, left, bottom, right.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, stride: int, dilation: int, pads: tuple[int, int, int, int]
    ) -> Tensor:
        top, left, bottom, right = pads
        return F.conv2d(F.pad(x, (left, right, top, bottom)), weight, bias, stride, 0, dilation)

    @staticmethod
    def symbolic(
        g: Any, x: Any, weight: Any, bias: Any, stride: int, dilation: int, pads: tuple[int, int, int, int]
    ) -> Any:
        steps = {"strides_i": [stride, stride], "dilations_i": [dilation, dilation]}
        return g.op("Conv", x, weight, bias, pads_i=list(pads), **steps)


class FoldedConv(nn.Module):
    """``PReLU(BN(conv(x)))``, behind an RSign or not, with everything constant computed beforehand."""

    beta: Tensor | None
    weight: Tensor
    bias: Tensor
    slope: Tensor

    def __init__(self, beta: Tensor | None, conv: SameConv2d, bn: nn.BatchNorm2d, act: nn.PReLU) -> None:
        super().__init__()
        self.stride, self.dilation = conv.stride[0], conv.dilation[0]
        assert bn.running_var is not None
        assert bn.running_mean is not None
        scale = bn.weight.double() / torch.sqrt(bn.running_var.double() + bn.eps)
        weight = conv.kernel().double() * scale[:, None, None, None]
        bias = bn.bias.double() - bn.running_mean.double() * scale
        if beta is not None:
            bias = bias + weight.sum(dim=(1, 2, 3))
            weight = -2.0 * weight
        self.register_buffer("beta", None if beta is None else beta.detach()[:, None, None])
        self.register_buffer("weight", weight.float())
        self.register_buffer("bias", bias.float())
        self.register_buffer("slope", act.weight.detach())

    def forward(self, x: Tensor) -> Tensor:
        if self.beta is not None:
            x = (x < self.beta).to(x.dtype)
        kernel = int(self.weight.shape[-1])
        (top, bottom), (left, right) = (
            same_padding(int(size), kernel, self.stride, self.dilation) for size in x.shape[-2:]
        )
        pads = (top, left, bottom, right)
        convolve = cast(Callable[..., Tensor], _ZeroPaddedConv.apply)
        y = convolve(x, self.weight, self.bias, self.stride, self.dilation, pads)
        return F.prelu(y, self.slope)


@torch.no_grad()
def fold(model: Network) -> Network:
    """A copy of ``model``, for inference on the CPU, with every unit inside it folded; ``model`` stays as it is."""
    folded = copy.deepcopy(model).cpu().eval()
    for path, module in list(folded.named_modules()):
        if isinstance(module, Unit):
            beta = None if module.sign is None else module.sign.beta
            replacement: nn.Module = FoldedConv(beta, module.conv, module.bn, module.act)
        elif isinstance(module, StemConv):
            replacement = FoldedConv(None, module.conv, module.bn, module.act)
            if hasattr(module, "round"):
                replacement = nn.Sequential(replacement, module.round)
        else:
            continue
        parent, _, name = path.rpartition(".")
        setattr(folded.get_submodule(parent), name, replacement)
    return folded.requires_grad_(False)
