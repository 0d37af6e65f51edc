"""Fitting a network's thresholds and BatchNorm statistics to images, without gradients."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from bihrnet_edge.model.binary import RSign


@torch.no_grad()
def center_thresholds(model: nn.Module, images: Tensor) -> None:
    """Set every RSign threshold to its input's mean over ``images`` ``(N, 3, H, W)``, layer by layer.

    A stream of shortcuts is mostly positive, so that signs around zero would start out constant, and a
    constant sign carries no bit and gets no useful gradient.
    """

    def center(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(module, RSign)
        module.beta.copy_(inputs[0].mean(dim=(0, 2, 3)))

    handles = [m.register_forward_pre_hook(center) for m in model.modules() if isinstance(m, RSign)]
    training = model.training
    model.train()
    try:
        model(images)
    finally:
        for handle in handles:
            handle.remove()
        model.train(training)


@torch.no_grad()
def reestimate_batchnorm(model: nn.Module, batches: Iterable[Tensor]) -> int:
    """Replace running means and variances by their plain average over ``batches`` of ``(N, 3, H, W)``.

    Training's running averages lag behind weights whose signs still flip, and see augmented images.

    Returns:
        How many channels were constant on all batches. They keep their mean and variance: divided by the root of a
        variance of zero, one flipped sign on another image would drown everything else.
    """
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    before = [(_statistic(norm.running_mean).clone(), _statistic(norm.running_var).clone()) for norm in norms]
    training = model.training
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # torch: cumulative average
    model.train()
    try:
        for images in batches:
            model(images)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        model.train(training)
    constant = 0
    for norm, (mean, variance) in zip(norms, before, strict=True):
        kept = _statistic(norm.running_var) == 0.0
        _statistic(norm.running_mean)[kept] = mean[kept]
        _statistic(norm.running_var)[kept] = variance[kept]
        constant += int(kept.sum())
    return constant


def _statistic(buffer: Tensor | None) -> Tensor:
    assert buffer is not None  # only of a norm that tracks none
    return buffer
