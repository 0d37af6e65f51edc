"""Learning-rate schedules as plain functions of the step, so that a resumed run needs no scheduler's state."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

ScheduleName = Literal["cosine", "step"]
#: The first warm-up step has this share of a step's way behind it: a rate of exactly zero would waste it.
_FIRST = 1e-3


def rate_factor(
    step: int,
    total: int,
    *,
    schedule: ScheduleName,
    warmup: float,
    per_epoch: int = 1,
    milestones: Sequence[int] = (),
    gamma: float = 0.1,
) -> float:
    """What the peak learning rate is multiplied by at ``step`` (from 0) of ``total``.

    Linear warm-up over the first ``warmup`` (share of all steps); then ``cosine`` falls to zero along half a
    period, ``step`` is multiplied by ``gamma`` at the beginning of every epoch of ``milestones`` (counted from 0,
    as in HRNet's ``LR_STEP``).
    """
    done = step / total
    if done < warmup:
        return (done + _FIRST) / (warmup + _FIRST)
    if schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * (done - warmup) / (1 - warmup)))
    return float(gamma ** sum(step // per_epoch >= milestone for milestone in milestones))
