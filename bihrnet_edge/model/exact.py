"""Rewriting a trained network so that every runtime computes the same bits.

Floating-point sums depend on their order, every runtime has its own, and a sign near zero turns a last-bit
difference into a flip that spreads through the whole network. Where all partial sums are exact there is no
order to depend on. So the canonical form bounds the bits of everything that is summed:

- A binary convolution's scale ``mean|w| * gamma / sigma`` keeps 8 bits, and its bias becomes a multiple of a
  fraction of that scale: ``scale * (integer) + bias`` then fits float32's 24 bits, whatever is folded into what.
- The input is ``(pixel - 128) / 64``, exact in 8 bits, and the first convolution's folded kernel lies on a grid on
  which no sum needs more than 24 bits.
- Its activations are rounded to integers within +-127 (``integer_stem``), and the second kernel lies on such a grid.

BatchNorm becomes the identity plus a bias. What is left outside this are single operations (PReLU, additions in
one order), which IEEE 754 rounds equally everywhere, and the head, whose rounding flips no sign.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from bihrnet_edge.errors import UserError
from bihrnet_edge.model.binary import hard_sign
from bihrnet_edge.model.checkpoint import Checkpoint
from bihrnet_edge.model.config import STEM_LIMIT
from bihrnet_edge.model.packing import COUNTER, layout

#: Pixels become ``(pixel - 128) / 64``: exact in float32, within [-2, 2).
PIXEL_MEAN, PIXEL_STD = 128.0 / 255.0, 64.0 / 255.0
_INPUT_BOUND, _INPUT_UNIT_BITS = 2.0, 6
_BN_EPSILON = 1e-5
#: ``variance + epsilon`` is exactly 1 in float32, so that this BatchNorm divides by 1.
UNIT_VARIANCE = 1.0 - _BN_EPSILON
_SCALE_BITS = 8
#: One bit below float32's 24, for the last rounding of the parts.
_SUM_BITS = 23
_MAX_BIAS_BITS = 8
#: Activations are scaled so that this many standard deviations stay within the limit.
_STEM_DEVIATIONS = 5.0


def make_exact(checkpoint: Checkpoint) -> Checkpoint:
    """The canonical form of a binary network; it decides as the original but for the rounding of its parameters.

    Raises:
        UserError: the network is real-valued, or already in this form.
    """
    config, metadata = checkpoint.config, checkpoint.metadata
    if not config.binary:
        raise UserError(f"checkpoint {metadata.name} is real-valued; only a binary network has an exact form.")
    if config.integer_stem:
        raise UserError(f"checkpoint {metadata.name} is in its exact form already.")
    state = {name: tensor.double() for name, tensor in checkpoint.state.items() if not name.endswith(COUNTER)}
    _exact_stem(state, metadata.mean, metadata.std)
    for kernel in layout(config)[1]:
        _exact_unit(state, kernel.removesuffix(".conv.weight"))
    return Checkpoint(
        dataclasses.replace(metadata, mean=(PIXEL_MEAN,) * 3, std=(PIXEL_STD,) * 3),
        dataclasses.replace(config, integer_stem=True),
        {name: tensor.float() for name, tensor in state.items()},
    )


def fold_pixels(kernel: Tensor, mean: Sequence[float], std: Sequence[float]) -> tuple[Tensor, Tensor]:
    """A kernel on ``(pixel / 255 - mean) / std`` as one on ``(pixel - 128) / 64``, and the constant beside it.

    Zero padding then means pixel 128, not the mean.

    Args:
        kernel: float64 ``(O, 3, H, W)``.
        mean, std: per channel.

    Returns:
        The kernel, and what each output channel gains, ``(O,)``.
    """
    old_mean, old_std = torch.tensor(mean, dtype=torch.float64), torch.tensor(std, dtype=torch.float64)
    slope, shift = PIXEL_STD / old_std, (PIXEL_MEAN - old_mean) / old_std
    return kernel * slope[:, None, None], (kernel * shift[:, None, None]).sum(dim=(1, 2, 3))


def _folded_batchnorm(state: dict[str, Tensor], unit: str) -> tuple[Tensor, Tensor]:
    """BatchNorm's scale and offset per channel; its parameters become those of the identity."""
    scale = state[f"{unit}.bn.weight"] / torch.sqrt(state[f"{unit}.bn.running_var"] + _BN_EPSILON)
    offset = state[f"{unit}.bn.bias"] - state[f"{unit}.bn.running_mean"] * scale
    state[f"{unit}.bn.weight"] = torch.ones_like(scale)
    state[f"{unit}.bn.running_mean"] = torch.zeros_like(scale)
    state[f"{unit}.bn.running_var"] = torch.full_like(scale, UNIT_VARIANCE)
    return scale, offset


def _exact_unit(state: dict[str, Tensor], unit: str) -> None:
    kernel = state[f"{unit}.conv.weight"]
    gain, offset = _folded_batchnorm(state, unit)
    mantissa, exponent = torch.frexp(kernel.abs().mean(dim=(1, 2, 3)) * gain)
    scale = torch.ldexp(torch.round(mantissa * 2**_SCALE_BITS) / 2**_SCALE_BITS, exponent)
    state[f"{unit}.conv.weight"] = hard_sign(kernel) * scale[:, None, None, None]
    bias = offset.clone()
    inputs = kernel[0].numel()
    for channel in range(len(scale)):
        size = abs(float(scale[channel]))
        if size > 0:
            room = math.log2(2 ** (_SUM_BITS - _SCALE_BITS) / (inputs + abs(float(offset[channel])) / size))
            step = size * 2.0 ** -max(0, min(_MAX_BIAS_BITS, math.floor(room)))
            bias[channel] = torch.round(offset[channel] / step) * step
    state[f"{unit}.bn.bias"] = bias


def _exact_stem(state: dict[str, Tensor], mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    first, second = "stem.0", "stem.1"
    deviations = state[f"{first}.bn.bias"].abs() + _STEM_DEVIATIONS * state[f"{first}.bn.weight"].abs()
    magnify = 2.0 ** math.floor(math.log2(STEM_LIMIT / float(deviations.max())))

    gain, offset = _folded_batchnorm(state, first)
    kernel = state[f"{first}.conv.weight"] * gain[:, None, None, None] * magnify
    kernel, constant = fold_pixels(kernel, mean, std)
    bias = offset * magnify + constant
    state[f"{first}.conv.weight"], state[f"{first}.bn.bias"] = _on_grid(kernel, bias, _INPUT_BOUND, _INPUT_UNIT_BITS)

    gain, offset = _folded_batchnorm(state, second)
    kernel = state[f"{second}.conv.weight"] * gain[:, None, None, None] / magnify
    state[f"{second}.conv.weight"], state[f"{second}.bn.bias"] = _on_grid(kernel, offset, STEM_LIMIT, 0)


def _on_grid(kernel: Tensor, bias: Tensor, bound: float, unit_bits: int) -> tuple[Tensor, Tensor]:
    """Round kernel and bias so that no sum over inputs within ``bound``, multiples of ``2**-unit_bits``, is rounded."""
    largest = kernel.abs().sum(dim=(1, 2, 3)) * bound + bias.abs()
    bits = torch.floor(torch.log2(2.0 ** (_SUM_BITS - unit_bits) / largest.clamp_min(1e-30)))
    grid = torch.pow(2.0, bits)
    fine = grid * 2.0**unit_bits
    return torch.round(kernel * grid[:, None, None, None]) / grid[:, None, None, None], torch.round(bias * fine) / fine
