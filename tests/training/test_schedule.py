"""Learning-rate schedules against their formulas and torch's own."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bihrnet_edge.training.schedule import rate_factor


@given(st.integers(1, 500), st.floats(0, 0.9))
def test_cosine_falls_from_one_to_almost_zero(total: int, warmup: float) -> None:
    factors = [rate_factor(step, total, schedule="cosine", warmup=warmup) for step in range(total)]
    for step, factor in enumerate(factors):
        done = step / total
        if done >= warmup:
            assert factor == pytest.approx(0.5 * (1 + math.cos(math.pi * (done - warmup) / (1 - warmup))))
    assert all(0 < factor <= 1 for factor in factors)
    peak = factors.index(max(factors))
    assert factors[:peak] == sorted(factors[:peak])
    assert factors[peak:] == sorted(factors[peak:], reverse=True)


def test_cosine_is_torchs() -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=40)
    for step in range(40):
        assert rate_factor(step, 40, schedule="cosine", warmup=0.0) == pytest.approx(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()


def test_step_is_torchs_by_epoch() -> None:
    """HRNet's 170 and 200 of 210 epochs, by torch's MultiStepLR."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [170, 200], gamma=0.1)
    for epoch in range(210):
        for step in (epoch * 3, epoch * 3 + 2):
            factor = rate_factor(step, 630, schedule="step", warmup=0.0, per_epoch=3, milestones=(170, 200), gamma=0.1)
            assert factor == pytest.approx(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()


def test_warmup_is_linear() -> None:
    factors = [rate_factor(step, 100, schedule="step", warmup=0.2) for step in range(22)]
    assert factors[0] == pytest.approx(1e-3 / 0.201)
    differences = [b - a for a, b in itertools.pairwise(factors[:20])]
    assert differences == pytest.approx([0.01 / 0.201] * 19)
    assert factors[20:] == [1.0, 1.0]
