"""Where a run stands, written so that it goes on to the same bits."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bihrnet_edge.errors import UserError
from bihrnet_edge.files import atomic_path, sha256
from bihrnet_edge.model.zoo import bundled_path
from bihrnet_edge.pose.keypoints import KeypointSet
from bihrnet_edge.training.recipe import Recipe


@dataclass
class Best:
    """The best epoch of a phase so far, by tuning PCK."""

    value: float
    epoch: int
    model: dict[str, Tensor]


@dataclass
class RunState:
    """Everything that is needed to go on from here.

    Attributes:
        phase: index in the recipe.
        step: steps of it that are done.
        model: the network's parameters and buffers, the first process' ones.
        finished: weights by phase; empty for those that nothing needs any more.
        log_lines: lines of the log that belong to what was done.
        optimizer, scaler, ema: states of those objects, in the middle of a phase.
        statistics, ema_statistics: running BatchNorm statistics of each process, ``(processes, numbers)``.
        running: ``(losses,)`` running averages.
        best: for early stopping.
    """

    phase: int
    step: int
    model: dict[str, Tensor]
    finished: dict[str, dict[str, Tensor]]
    log_lines: int = 0
    optimizer: dict[str, Any] | None = None
    scaler: dict[str, Any] = field(default_factory=dict)
    ema: dict[str, Any] | None = None
    statistics: Tensor | None = None
    ema_statistics: Tensor | None = None
    running: Tensor | None = None
    best: Best | None = None


def run_digest(recipe: Recipe, keypoints: KeypointSet) -> str:
    """SHA-256 of all that the states of two runs must share, which where the data lie is not."""
    phases = []
    for phase in recipe.phases:
        values = dataclasses.asdict(phase)
        for key in ("init", "teacher"):
            if (source := values[key]) is not None and recipe.phase(source) is None:
                values[key] = sha256(bundled_path(source) or Path(source))
        phases.append(values)
    content = {
        "model": recipe.model_config(len(keypoints), "binary").to_dict(),
        "phases": phases,
        "augmentation": dataclasses.asdict(recipe.augmentation),
        "seed": recipe.seed,
        "canvas": recipe.canvas,
        "tuning_share": recipe.tuning_share,
        "precision": recipe.precision,
        "joints": keypoints.keypoints,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def save_state(path: Path, state: RunState, recipe: Recipe, digest: str) -> None:
    """Write the state whole or not at all."""
    values = vars(state) | {"recipe": recipe.name, "digest": digest, "best": state.best and vars(state.best)}
    with atomic_path(path) as temporary:
        torch.save(values, temporary)


def load_state(path: Path, recipe: Recipe, digest: str) -> RunState | None:
    """The state kept in ``path``, None where there is none.

    Raises:
        UserError: the file cannot be read, or is of another recipe.
    """
    if not path.exists():
        return None
    try:
        values = torch.load(path, map_location="cpu", weights_only=True)
        name, kept = values.pop("recipe"), values.pop("digest", None)
    except Exception as error:
        raise UserError(f"{path} cannot be read ({error}); remove it to start afresh.") from error
    if name != recipe.name:
        raise UserError(f"{path.parent} holds a run of recipe {name!r}; choose another folder.")
    if kept != digest:
        raise UserError(
            f"{path} is of recipe {name!r} with another network, phases, augmentation, seed, canvas, precision, "
            "tuning share or joints; choose another folder, or remove that file to start afresh."
        )
    try:
        best = values.pop("best")
        return RunState(**values, best=Best(**best) if best else None)
    except (TypeError, KeyError) as error:
        raise UserError(f"{path} cannot be read ({error}); remove it to start afresh.") from error
