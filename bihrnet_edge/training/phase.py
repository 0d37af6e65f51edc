"""One phase of a recipe and what its keys may hold."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from bihrnet_edge.errors import UserError
from bihrnet_edge.model.config import INPUT_MULTIPLE
from bihrnet_edge.training.keys import build, check_choice, is_int, is_number
from bihrnet_edge.training.schedule import ScheduleName

#: ``twin`` real-valued; ``binary-activations`` 1-bit activations, real weights; ``binary`` both 1-bit.
Network = Literal["twin", "binary-activations", "binary"]
LOSSES = ("mse", "awing", "target_kl", "teacher_kl", "feature")
#: Losses that compare with a teacher.
TEACHER_LOSSES = ("teacher_kl", "feature")
#: The run's own file ``state.pt`` lies beside the checkpoints.
_RESERVED_NAME = "state"


@dataclass(frozen=True)
class Phase:
    """One stretch of training with one network, input size and learning-rate cycle.

    Attributes:
        name: unique in the recipe.
        network: what is binary.
        size: input height and width, pixels.
        epochs: passes over the training set.
        losses: weight of each loss by name (:data:`LOSSES`).
        teacher: network of ``teacher_kl`` and ``feature``: an earlier phase, or a checkpoint (path or bundled name).
        init: checkpoint (path or bundled name) to start from in place of the phase before.
        exact: train on in the exact form (:mod:`bihrnet_edge.model.exact`): kernels, stem and BatchNorm are frozen,
            thresholds, PReLU slopes and head learn. What is measured then is what gets deployed.
        batch: images a step, over all processes.
        learning_rate: peak of the schedule.
        schedule: ``cosine`` to zero, or ``step``.
        milestones, gamma: ``step`` multiplies the rate by ``gamma`` at the beginning of these epochs (from 0).
        warmup: share of the steps in which the rate grows to its peak.
        weight_decay: not applied to binary weights, thresholds, slopes and BatchNorm.
        gradient_clip: largest L2 norm of the gradient; 0 does not clip.
        ema_decay: of the moving average of the weights, which is measured and kept in their place; 0 keeps none.
        early_stopping: stop after so many epochs without a better tuning PCK, and keep the best epoch; 0 never stops.
        temperature: of the KL losses' softmax.
        sigma: standard deviation of the target Gaussians, heatmap pixels.
    """

    name: str
    network: Network
    size: tuple[int, int]
    epochs: int
    losses: Mapping[str, float]
    teacher: str | None = None
    init: str | None = None
    exact: bool = False
    batch: int = 32
    learning_rate: float = 2e-3
    schedule: ScheduleName = "cosine"
    milestones: tuple[int, ...] = ()
    gamma: float = 0.1
    warmup: float = 0.05
    weight_decay: float = 1e-4
    gradient_clip: float = 5.0
    ema_decay: float = 0.0
    early_stopping: int = 0
    temperature: float = 0.1
    sigma: float = 1.0


def check_name(name: str, where: str) -> None:
    """Names of recipes and phases become names of files."""
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}", name) is None:
        raise UserError(
            f"{where}: the name {name!r} becomes a file's name; give up to 100 letters, digits, '_', '.' and '-', "
            "the first a letter or digit."
        )
    if name == _RESERVED_NAME:
        raise UserError(f"{where}: the name {name!r} is that of the run's own state.pt; choose another.")


def read_phase(values: Any, where: str) -> Phase:
    """A phase from its mapping.

    Raises:
        UserError: a key is unknown, missing or out of range; the sentence names it.
    """
    phase = build(Phase, values, where)
    check_name(phase.name, where)
    where = f"{where} ({phase.name})"
    check_choice(phase.network, get_args(Network), where, "network")
    check_choice(phase.schedule, get_args(ScheduleName), where, "schedule")
    size = phase.size
    sides = isinstance(size, (list, tuple)) and len(size) == 2 and all(is_int(side) for side in size)
    if not sides or any(side <= 0 or side % INPUT_MULTIPLE for side in size):
        raise UserError(f"{where}: size is {size!r}; give height and width, multiples of {INPUT_MULTIPLE}.")
    _check_losses(phase, where)
    _check_numbers(phase, where)
    milestones = phase.milestones
    if not isinstance(milestones, (list, tuple)) or not all(is_int(m) and 0 < m < phase.epochs for m in milestones):
        raise UserError(
            f"{where}: milestones is {milestones!r}; give a list of epochs from 1 to below epochs ({phase.epochs})."
        )
    if (phase.schedule == "step") != bool(milestones):
        raise UserError(f"{where}: milestones and schedule: step belong together; give both or neither.")
    if phase.exact and phase.network != "binary":
        raise UserError(f"{where}: exact is true, which only network: binary has a form for.")
    return dataclasses.replace(phase, size=(size[0], size[1]), milestones=tuple(milestones))


def _check_losses(phase: Phase, where: str) -> None:
    if not isinstance(phase.losses, dict) or not phase.losses:
        raise UserError(f"{where}: losses is {phase.losses!r}; give a weight for one or more of {', '.join(LOSSES)}.")
    for name, weight in phase.losses.items():
        if name not in LOSSES:
            raise UserError(f"{where}: unknown loss {name!r}; choose from {', '.join(LOSSES)}.")
        if not is_number(weight):
            raise UserError(f"{where}: the weight of {name} is {weight!r}; give a number.")
        if name in TEACHER_LOSSES and phase.teacher is None:
            raise UserError(
                f"{where}: loss {name} needs the key 'teacher', the name of an earlier phase or a checkpoint."
            )


def _check_numbers(phase: Phase, where: str) -> None:
    if not is_int(phase.epochs) or phase.epochs < 1:
        raise UserError(f"{where}: epochs is {phase.epochs!r}; give an integer above 0.")
    if not is_int(phase.batch) or phase.batch < 2:
        raise UserError(f"{where}: batch is {phase.batch!r}; BatchNorm needs an integer above 1.")
    if not is_int(phase.early_stopping) or phase.early_stopping < 0:
        raise UserError(f"{where}: early_stopping is {phase.early_stopping!r}; give a number of epochs, 0 for never.")
    for key in ("learning_rate", "sigma", "temperature", "gamma"):
        if getattr(phase, key) <= 0:
            raise UserError(f"{where}: {key} is {getattr(phase, key)!r}; give a number above 0.")
    for key in ("weight_decay", "gradient_clip"):
        if getattr(phase, key) < 0:
            raise UserError(f"{where}: {key} is {getattr(phase, key)!r}; give 0 or a number above it.")
    if not 0 <= phase.warmup < 1:
        raise UserError(f"{where}: warmup is {phase.warmup!r}; give a share of the steps from 0 to below 1.")
    if not 0 <= phase.ema_decay < 1:
        raise UserError(f"{where}: ema_decay is {phase.ema_decay!r}; give a number from 0 to below 1.")


def check_phases(phases: tuple[Phase, ...], where: str) -> None:
    """What one phase demands of those before it.

    Raises:
        UserError: a name occurs twice, aspects differ, or a network cannot start from the one before.
    """
    seen: set[str] = set()
    height, width = phases[0].size
    before: Phase | None = None
    for phase in phases:
        if phase.name in seen:
            raise UserError(f"{where}: two phases are named {phase.name!r}; names must be distinct.")
        # People are cropped once, at the first phase's aspect.
        if phase.size[0] * width != phase.size[1] * height:
            raise UserError(
                f"{where}: size {list(phase.size)} of phase {phase.name!r} has another aspect than the first phase's "
                f"{[height, width]}; give all phases the same ratio of height to width."
            )
        if phase.init is None:
            _check_start(phase, before, where)
        seen.add(phase.name)
        before = phase
    if phases[-1].network == "binary-activations":
        raise UserError(
            f"{where}: the last phase {phases[-1].name!r} is binary-activations, which no checkpoint can hold; "
            "end with a twin or binary phase."
        )


def _check_start(phase: Phase, before: Phase | None, where: str) -> None:
    if phase.exact and (before is None or before.network != "binary"):
        raise UserError(f"{where}: exact phase {phase.name!r} needs a binary phase before it, or the key init.")
    if before is not None and before.exact and not phase.exact:
        raise UserError(
            f"{where}: phase {phase.name!r} follows the exact phase {before.name!r}, whose kernels are frozen; "
            "give it exact: true, or the key init."
        )
    if before is not None and phase.network == "twin" and before.network != "twin":
        raise UserError(
            f"{where}: network of phase {phase.name!r} is twin after {before.network}; twins come first, or have init."
        )
