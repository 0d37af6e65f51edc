"""Losses between heatmaps ``(N, K, h, w)``, masked by visibility ``(N, K)``, and between feature maps.

Each is the mean over the pixels (or, for distributions, the sum over the pixels) of the joints that are
labelled, so that unlabelled ones neither pull nor dilute. They come as a total and a divisor (:class:`Term`):
where a batch is shared out, the mean is that of all processes' totals over all processes' divisors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

#: Added to a feature map's variance: a map that is constant has no pattern to compare.
_FEATURE_EPSILON = 1e-5


class Term(NamedTuple):
    """A loss summed over what it is the mean of.

    Attributes:
        total: scalar sum, with gradient.
        divisor: scalar number of joints (or images), float.
    """

    total: Tensor
    divisor: Tensor

    def mean(self) -> Tensor:
        """The loss of this batch alone; 0 where nothing is labelled."""
        return self.total / self.divisor.clamp_min(1.0)


def _masked(per_joint: Tensor, visible: Tensor) -> Term:
    mask = visible.to(per_joint.dtype)
    return Term((per_joint * mask).sum(), mask.sum())


def mse_loss(predicted: Tensor, target: Tensor, visible: Tensor) -> Term:
    """Mean squared error."""
    return _masked(((predicted - target) ** 2).mean(dim=(2, 3)), visible)


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
) -> Term:
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
    return _masked((loss * (1.0 + foreground_weight * foreground)).mean(dim=(2, 3)), visible)


def _log_distribution(heatmaps: Tensor, temperature: float) -> Tensor:
    return F.log_softmax(heatmaps.flatten(2) / temperature, dim=2)


def kl_loss(student: Tensor, teacher: Tensor, visible: Tensor, *, temperature: float = 0.1) -> Term:
    """KL divergence of the student's spatial distribution from the teacher's, in nats a joint.

    The distribution of a joint is the softmax of its heatmap over all pixels. Heatmaps have peaks near 1,
    so a temperature well below 1 is what makes their softmax peaked. The teacher gets no gradient.
    """
    teacher_log = _log_distribution(teacher.detach(), temperature)
    student_log = _log_distribution(student, temperature)
    return _masked((teacher_log.exp() * (teacher_log - student_log)).sum(dim=2), visible)


def target_kl_loss(predicted: Tensor, target: Tensor, visible: Tensor, *, temperature: float = 0.1) -> Term:
    """:func:`kl_loss` with the ground truth in the teacher's place: its Gaussians, normalised to sum 1.

    A joint whose Gaussian lies outside the heatmap has no distribution and does not count.
    """
    mass = target.flatten(2).sum(dim=2, keepdim=True)
    inside = visible.bool() & (mass[..., 0] > 0.5)
    truth = target.flatten(2) / mass.clamp_min(0.5)
    cross_entropy = -(truth * _log_distribution(predicted, temperature)).sum(dim=2)
    entropy = -torch.special.xlogy(truth, truth).sum(dim=2)
    return _masked(cross_entropy - entropy, inside)


def _standardised(features: Tensor) -> Tensor:
    flat = features.float().flatten(2)
    centred = flat - flat.mean(dim=2, keepdim=True)
    return centred / (centred.square().mean(dim=2, keepdim=True) + _FEATURE_EPSILON).sqrt()


def feature_loss(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Term:
    """Mean squared difference of feature maps ``(N, C, h, w)``, each map brought to mean 0 and variance 1 first.

    For one pair of maps that is ``2 - 2 * correlation``: binary and real-valued features differ in scale, what can
    be asked for is the same pattern. The mean over maps and stages, counted by image; the teacher gets no gradient.
    """
    per_stage = [
        (_standardised(a) - _standardised(b.detach())).square().mean(dim=(1, 2))
        for a, b in zip(student, teacher, strict=True)
    ]
    per_image = torch.stack(per_stage).mean(dim=0)
    return Term(per_image.sum(), torch.full_like(per_image[0], len(per_image)).detach())
