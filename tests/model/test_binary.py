"""Binary layers against brute force and the formulas they cite."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bihrnet_edge.model.binary import (
    BinaryConv2d,
    RSign,
    SameConv2d,
    approx_sign,
    hard_sign,
    magnitude_aware_sign,
    same_padding,
)


def test_sign_of_both_zeros_is_plus_one() -> None:
    values = torch.tensor([0.0, -0.0, 1e-30, -1e-30])
    assert hard_sign(values).tolist() == [1.0, 1.0, 1.0, -1.0]
    # Computed another way where there is a gradient.
    assert approx_sign(values.requires_grad_()).tolist() == [1.0, 1.0, 1.0, -1.0]


def test_approx_sign_gradient_is_the_piecewise_polynomial_of_bi_real_net() -> None:
    x = torch.tensor([-2.0, -1.0, -0.75, -0.25, 0.0, 0.25, 0.75, 1.0, 2.0], requires_grad=True)
    approx_sign(x).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0.0, 0.0, 0.5, 1.5, 2.0, 1.5, 0.5, 0.0, 0.0]


def test_rsign_threshold_is_per_channel_and_learns() -> None:
    sign = RSign(2)
    with torch.no_grad():
        sign.beta.copy_(torch.tensor([0.5, -0.5]))
    x = torch.tensor([[[[0.4, 0.5]], [[-0.6, -0.5]]]])
    assert sign(x).flatten().tolist() == [-1.0, 1.0, -1.0, 1.0]
    sign(x).sum().backward()
    assert sign.beta.grad is not None
    # -(2 - 2|x - beta|) summed over the channel's pixels.
    assert sign.beta.grad.tolist() == pytest.approx([-3.8, -3.8])


def test_kernel_is_sign_times_mean_magnitude_per_output_channel() -> None:
    kernel = torch.tensor([[[[0.5, -1.5]]], [[[0.0, -0.25]]]])
    assert magnitude_aware_sign(kernel).flatten().tolist() == [1.0, -1.0, 0.125, -0.125]


def test_kernel_gradient_is_clipped_straight_through() -> None:
    kernel = torch.tensor([[[[0.5, -1.5]]]], requires_grad=True)
    (magnitude_aware_sign(kernel) * torch.tensor([3.0, 5.0])).sum().backward()
    assert kernel.grad is not None
    # The scale, mean|w| = 1, multiplies the gradient; outside [-1, 1] there is none.
    assert kernel.grad.flatten().tolist() == [3.0, 0.0]


@given(size=st.integers(1, 40), kernel=st.integers(1, 5), stride=st.integers(1, 3), dilation=st.integers(1, 3))
def test_same_padding_covers_exactly_ceil_of_size_over_stride(
    size: int, kernel: int, stride: int, dilation: int
) -> None:
    before, after = same_padding(size, kernel, stride, dilation)
    reach = (kernel - 1) * dilation + 1
    outputs = math.ceil(size / stride)
    assert (size + before + after - reach) // stride + 1 >= outputs
    if before + after:  # no more than the last window needs
        assert (outputs - 1) * stride + reach == size + before + after
    assert 0 <= after - before <= 1


def test_same_padding_for_stride_two_differs_from_torch() -> None:
    assert same_padding(64, 3, 2, 1) == (0, 1)
    assert same_padding(63, 3, 2, 1) == (1, 1)
    assert same_padding(48, 3, 1, 2) == (2, 2)


@pytest.mark.parametrize(("stride", "dilation", "size"), [(1, 1, 5), (1, 2, 5), (2, 1, 6), (2, 1, 5), (1, 2, 2)])
@pytest.mark.parametrize("layer", [BinaryConv2d, SameConv2d])
def test_convolution_equals_loops(layer: type[SameConv2d], stride: int, dilation: int, size: int) -> None:
    torch.manual_seed(0)
    conv = layer(3, 2, 3, stride=stride, dilation=dilation)
    binary = layer is BinaryConv2d
    x = torch.randn(1, 3, size, size + 1)
    if binary:
        x = hard_sign(x)
    got = conv(x).detach().numpy()[0]
    weight = conv.weight.detach().numpy()
    if binary:
        weight = np.where(weight >= 0, 1.0, -1.0) * np.abs(weight).mean(axis=(1, 2, 3), keepdims=True)
    height, width = got.shape[1:]
    assert (height, width) == (math.ceil(size / stride), math.ceil((size + 1) / stride))
    top, left = same_padding(size, 3, stride, dilation)[0], same_padding(size + 1, 3, stride, dilation)[0]
    pixels = x.numpy()[0]
    for o, i, j in itertools.product(range(2), range(height), range(width)):
        total = 0.0
        for c, u, v in itertools.product(range(3), range(3), range(3)):
            y, z = i * stride - top + u * dilation, j * stride - left + v * dilation
            inside = 0 <= y < size and 0 <= z < size + 1
            value = pixels[c, y, z] if inside else (1.0 if binary else 0.0)
            total += weight[o, c, u, v] * value
        assert got[o, i, j] == pytest.approx(total, abs=1e-5)
