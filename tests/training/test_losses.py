"""Losses against values worked out by hand, and their gradients against finite differences."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd import gradcheck

from bihrnet_edge.training.losses import awing_loss, feature_loss, kl_loss, mse_loss, target_kl_loss


def _one(value: float) -> torch.Tensor:
    return torch.full((1, 1, 1, 1), value, dtype=torch.float64)


SEEN = torch.ones(1, 1)


@pytest.mark.parametrize(
    ("predicted", "target", "expected"),
    [
        (0.0, 0.0, 0.0),
        # Background, d = 0.25 < theta: 14 ln(1 + 0.25^2.1), 0.25^2.1 = 0.0544094.
        (0.25, 0.0, 0.741729),
        # Background, d = 1 >= theta: 0.5^2.1 = 0.2332582, A = 14 * 2.1 * 0.5^1.1 / 1.2332582 = 11.1214790,
        # C = 0.5 A - 14 ln(1.2332582) = 2.6252838, A - C = 8.4961952.
        (1.0, 0.0, 8.496195),
        # Peak, weighted 11 times, d = 0.25: 11 * 14 ln(1 + 0.25^1.1), 0.25^1.1 = 0.2176376.
        (0.75, 1.0, 30.323),
    ],
)
def test_awing_by_hand(predicted: float, target: float, expected: float) -> None:
    assert awing_loss(_one(predicted), _one(target), SEEN).mean().item() == pytest.approx(expected, rel=2e-4)


@given(st.floats(0, 1))
def test_awing_is_continuous_at_theta(target: float) -> None:
    below, above = (awing_loss(_one(target + 0.5 + e), _one(target), SEEN).mean().item() for e in (-1e-6, 1e-6))
    assert below == pytest.approx(above, rel=1e-4)


@given(st.floats(0, 1), st.floats(0.01, 2))
def test_awing_grows_with_the_error(target: float, error: float) -> None:
    smaller, larger = (awing_loss(_one(target + e), _one(target), SEEN).mean().item() for e in (error * 0.9, error))
    assert 0 <= smaller < larger


def test_awing_weighs_the_dilated_peak() -> None:
    target = torch.zeros(1, 1, 5, 5)
    target[0, 0, 2, 2] = 1.0
    inside, outside = torch.zeros_like(target), torch.zeros_like(target)
    inside[0, 0, 2, 2] = outside[0, 0, 2, 2] = 1.0
    inside[0, 0, 1, 1] = 0.3  # beside the peak: within its 3x3 dilation
    outside[0, 0, 0, 0] = 0.3
    ratio = awing_loss(inside, target, SEEN).mean() / awing_loss(outside, target, SEEN).mean()
    assert ratio.item() == pytest.approx(11.0, rel=1e-5)


def test_kl_by_hand() -> None:
    # Temperature 1 and logits ln(p): the distributions are p themselves.
    teacher = torch.tensor([0.5, 0.25, 0.25]).log().reshape(1, 1, 1, 3)
    student = torch.tensor([0.25, 0.25, 0.5]).log().reshape(1, 1, 1, 3)
    # 0.5 ln 2 + 0.25 ln 1 + 0.25 ln 0.5 = 0.25 ln 2
    assert kl_loss(student, teacher, SEEN, temperature=1.0).mean().item() == pytest.approx(0.25 * math.log(2), rel=1e-6)
    assert kl_loss(teacher, teacher, SEEN).mean().item() == pytest.approx(0.0, abs=1e-6)
    # A constant added to a heatmap does not change its distribution.
    assert kl_loss(teacher + 3, teacher, SEEN).mean().item() == pytest.approx(0.0, abs=1e-5)


def test_target_kl_by_hand() -> None:
    target = torch.tensor([1.0, 1.0, 0.0, 0.0]).reshape(1, 1, 2, 2)
    # Half a bit of mass on each of two pixels against a uniform student: ln 4 - ln 2.
    assert target_kl_loss(torch.zeros(1, 1, 2, 2), target, SEEN).mean().item() == pytest.approx(math.log(2), rel=1e-6)
    assert target_kl_loss(torch.ones(1, 1, 2, 2), torch.zeros(1, 1, 2, 2), SEEN).mean().item() == 0.0


def test_teacher_gets_no_gradient() -> None:
    teacher = torch.randn(1, 1, 2, 2, requires_grad=True)
    student = torch.randn(1, 1, 2, 2, requires_grad=True)
    kl_loss(student, teacher, SEEN).mean().backward()  # type: ignore[no-untyped-call]
    assert teacher.grad is None
    assert student.grad is not None


@pytest.mark.parametrize("loss", [mse_loss, awing_loss, kl_loss, target_kl_loss])
def test_gradients_equal_finite_differences(loss: object) -> None:
    generator = torch.Generator().manual_seed(0)
    predicted = torch.rand(2, 3, 4, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    target = torch.rand(2, 3, 4, 3, generator=generator, dtype=torch.float64)
    visible = torch.tensor([[1, 0, 1], [1, 1, 0]])
    assert gradcheck(lambda p: loss(p, target, visible).mean(), (predicted,), atol=1e-4)  # type: ignore[operator]


@pytest.mark.parametrize("loss", [mse_loss, awing_loss, kl_loss, target_kl_loss])
def test_unlabelled_joints_neither_pull_nor_dilute(loss: object) -> None:
    generator = torch.Generator().manual_seed(1)
    predicted = torch.rand(2, 2, 3, 3, generator=generator)
    target = torch.rand(2, 2, 3, 3, generator=generator)
    only_first = loss(predicted[:, :1], target[:, :1], torch.ones(2, 1)).mean()  # type: ignore[operator]
    masked = loss(predicted, target, torch.tensor([[1, 0], [1, 0]])).mean()  # type: ignore[operator]
    assert masked.item() == pytest.approx(only_first.item(), rel=1e-6)
    predicted[:, 1] = 100.0
    assert loss(predicted, target, torch.tensor([[1, 0], [1, 0]])).mean().item() == pytest.approx(masked.item())  # type: ignore[operator]
    assert loss(predicted, target, torch.zeros(2, 2)).mean().item() == 0.0  # type: ignore[operator]


def test_shared_out_terms_make_the_mean_of_the_whole() -> None:
    """Totals over divisors of two unequal parts; the mean of the parts' means would be another."""
    generator = torch.Generator().manual_seed(2)
    predicted, target = (torch.rand(4, 3, 5, 5, generator=generator) for _ in range(2))
    visible = torch.tensor([[1, 0, 0], [0, 0, 0], [1, 1, 1], [1, 1, 0]])
    for loss in (mse_loss, awing_loss, kl_loss, target_kl_loss):
        whole = loss(predicted, target, visible)
        parts = [loss(predicted[s], target[s], visible[s]) for s in (slice(0, 2), slice(2, 4))]
        total = sum((part.total for part in parts), torch.zeros(()))
        divisor = sum((part.divisor for part in parts), torch.zeros(()))
        assert (total / divisor).item() == pytest.approx(whole.mean().item(), rel=1e-5)
        assert torch.stack([part.mean() for part in parts]).mean().item() != pytest.approx(
            whole.mean().item(), rel=1e-3
        )


def test_feature_loss_compares_patterns() -> None:
    generator = torch.Generator().manual_seed(3)
    stages = [torch.randn(2, c, 6, 5, generator=generator) for c in (4, 2)]
    assert feature_loss(stages, stages).mean().item() == 0.0
    scaled = [3.0 * stage + 7.0 for stage in stages]
    assert feature_loss(scaled, stages).mean().item() == pytest.approx(0.0, abs=1e-4)
    assert feature_loss([-s for s in stages], stages).mean().item() == pytest.approx(4.0, rel=1e-3)
    # 2 - 2 * correlation of one pair of maps, by torch's own correlation.
    a, b = torch.randn(1, 1, 4, 4, generator=generator), torch.randn(1, 1, 4, 4, generator=generator)
    correlation = torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1].item()
    assert feature_loss([a], [b]).mean().item() == pytest.approx(2 - 2 * correlation, rel=1e-3)
    constant = torch.ones(1, 1, 4, 4)
    assert math.isfinite(feature_loss([constant], [a]).mean().item())


def test_feature_loss_pulls_on_the_student_alone() -> None:
    student, teacher = (torch.randn(2, 3, 4, 4, requires_grad=True) for _ in range(2))
    feature_loss([student], [teacher]).mean().backward()  # type: ignore[no-untyped-call]
    assert teacher.grad is None
    assert student.grad is not None
    assert student.grad.abs().sum() > 0
