"""Losses between heatmaps ``(N, K, h, w)``, masked by visibility ``(N, K)``.

Each is the mean over the pixels (or, for distributions, the sum over the pixels) of the joints that are
labelled, so that unlabelled ones neither pull nor dilute.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def _masked_mean(per_joint: Tensor, visible: Tensor) -> Tensor:
    mask = visible.to(per_joint.dtype)
    return (per_joint * mask).sum() / mask.sum().clamp_min(1.0)


def mse_loss(predicted: Tensor, target: Tensor, visible: Tensor) -> Tensor:
    """Mean squared error."""
    return _masked_mean(((predicted - target) ** 2).mean(dim=(2, 3)), visible)


def awing_loss(
    predicted: Tensor,
    target: Tensor,
    visible: Tensor,
    *,
    alpha: float = 2.1,
    omega: float = 14.0,
    epsilon: float = 1.0,
    theta: float = 0.5,
    foreground_weight: float = 10.0,
    foreground_threshold: float = 0.2,
) -> Tensor:
    """Adaptive Wing loss with its weighted loss map (Wang et al. 2019).

    With ``d = |target - predicted|`` and ``p = alpha - target``::

        d < theta:  omega * ln(1 + (d / epsilon)^p)
        else:       A * d - C

    ``A`` and ``C`` make value and slope continuous at ``theta``. Pixels where the 3x3-dilated target is at
    least ``foreground_threshold`` weigh ``1 + foreground_weight``.
    """
    power = alpha - target
    difference = (target - predicted).abs()
    ratio = torch.tensor(theta / epsilon, dtype=target.dtype, device=target.device)
    slope = omega / (1 + ratio**power) * power * ratio ** (power - 1) / epsilon
    offset = theta * slope - omega * torch.log1p(ratio**power)
    # The power's gradient at 0 is not finite where p < 1; d is clamped there and p > 1 keeps the value at 0.
    curved = omega * torch.log1p((difference.clamp(1e-12, theta) / epsilon) ** power)
    loss = torch.where(difference < theta, curved, slope * difference - offset)
    foreground = F.max_pool2d(target, 3, stride=1, padding=1) >= foreground_threshold
    return _masked_mean((loss * (1.0 + foreground_weight * foreground)).mean(dim=(2, 3)), visible)


def _log_distribution(heatmaps: Tensor, temperature: float) -> Tensor:
    return F.log_softmax(heatmaps.flatten(2) / temperature, dim=2)


def kl_loss(student: Tensor, teacher: Tensor, visible: Tensor, *, temperature: float = 0.1) -> Tensor:
    """KL divergence of the student's spatial distribution from the teacher's, in nats a joint.

    The distribution of a joint is the softmax of its heatmap over all pixels. Heatmaps have peaks near 1,
    so a temperature well below 1 is what makes their softmax peaked. The teacher gets no gradient.
    """
    teacher_log = _log_distribution(teacher.detach(), temperature)
    student_log = _log_distribution(student, temperature)
    return _masked_mean((teacher_log.exp() * (teacher_log - student_log)).sum(dim=2), visible)


def target_kl_loss(predicted: Tensor, target: Tensor, visible: Tensor, *, temperature: float = 0.1) -> Tensor:
    """:func:`kl_loss` with the ground truth in the teacher's place: its Gaussians, normalised to sum 1.

    A joint whose Gaussian lies outside the heatmap has no distribution and does not count.
    """
    mass = target.flatten(2).sum(dim=2, keepdim=True)
    inside = visible.bool() & (mass[..., 0] > 0.5)
    truth = target.flatten(2) / mass.clamp_min(0.5)
    cross_entropy = -(truth * _log_distribution(predicted, temperature)).sum(dim=2)
    entropy = -torch.special.xlogy(truth, truth).sum(dim=2)
    return _masked_mean(cross_entropy - entropy, inside)
