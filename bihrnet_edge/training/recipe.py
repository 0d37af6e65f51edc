"""A training recipe: a YAML file of data, network and phases. Errors name the key."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from bihrnet_edge.errors import UserError
from bihrnet_edge.model.config import INPUT_MULTIPLE, BlockName, BottleneckName, ModelConfig, preset
from bihrnet_edge.training.augment import Augmentation

#: ``twin`` real-valued; ``binary-activations`` 1-bit activations, real weights; ``binary`` both 1-bit.
Network = Literal["twin", "binary-activations", "binary"]
LOSSES = ("mse", "awing", "target_kl", "teacher_kl")


@dataclass(frozen=True)
class Phase:
    """One stretch of training with one network, input size and learning-rate cycle.

    Attributes:
        name: unique in the recipe.
        network: what is binary.
        size: input height and width, pixels.
        epochs: passes over the training set.
        losses: weight of each loss by name (:data:`LOSSES`).
        teacher: earlier phase whose network is the teacher of ``teacher_kl``.
        batch: images a step.
        learning_rate: peak; linear warm-up, then a cosine to zero.
        warmup: share of the steps that warm up.
        weight_decay: not applied to binary weights, thresholds, slopes and BatchNorm.
        sigma: standard deviation of the target Gaussians, heatmap pixels.
    """

    name: str
    network: Network
    size: tuple[int, int]
    epochs: int
    losses: Mapping[str, float]
    teacher: str | None = None
    batch: int = 32
    learning_rate: float = 2e-3
    warmup: float = 0.05
    weight_decay: float = 1e-4
    sigma: float = 1.0


@dataclass(frozen=True)
class Recipe:
    """Everything that a run depends on, apart from the machine."""

    name: str
    preset: str
    train_annotations: Path
    train_images: Path
    val_annotations: Path
    val_images: Path
    phases: tuple[Phase, ...]
    block: BlockName = "ms"
    bottleneck: BottleneckName = "ir"
    seed: int = 0
    canvas: int = 160
    augmentation: Augmentation = field(default_factory=Augmentation)

    def model_config(self, keypoints: int, network: Network) -> ModelConfig:
        config = dataclasses.replace(
            preset(self.preset, keypoints=keypoints), block=self.block, bottleneck=self.bottleneck
        )
        return dataclasses.replace(config, binary=network != "twin")


T = TypeVar("T")


def _build(cls: type[T], values: Any, where: str) -> T:
    if not isinstance(values, dict):
        raise UserError(f"{where} is not a mapping of keys to values.")
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for key in values:
        if key not in fields:
            raise UserError(f"{where}: unknown key {key!r}; known keys are {', '.join(fields)}.")
    for name, spec in fields.items():
        required = spec.default is dataclasses.MISSING and spec.default_factory is dataclasses.MISSING
        if required and name not in values:
            raise UserError(f"{where}: key {name!r} is missing.")
        if name in values and isinstance(spec.default, (int, float)) and not isinstance(values[name], (int, float)):
            raise UserError(f"{where}: {name} is {values[name]!r}; give a number.")
    return cls(**values)


def _phase(values: Any, where: str) -> Phase:
    phase = _build(Phase, values, where)
    where = f"{where} ({phase.name})"
    if phase.network not in get_args(Network):
        raise UserError(f"{where}: network is {phase.network!r}; choose one of {', '.join(get_args(Network))}.")
    size = phase.size
    sides = isinstance(size, (list, tuple)) and len(size) == 2 and all(isinstance(side, int) for side in size)
    if not sides or any(side <= 0 or side % INPUT_MULTIPLE for side in size):
        raise UserError(f"{where}: size is {size!r}; give height and width, multiples of {INPUT_MULTIPLE}.")
    if not isinstance(phase.losses, dict) or not phase.losses:
        raise UserError(f"{where}: losses is {phase.losses!r}; give a weight for one or more of {', '.join(LOSSES)}.")
    for name, weight in phase.losses.items():
        if name not in LOSSES:
            raise UserError(f"{where}: unknown loss {name!r}; choose from {', '.join(LOSSES)}.")
        if not isinstance(weight, (int, float)):
            raise UserError(f"{where}: the weight of {name} is {weight!r}; give a number.")
    if not isinstance(phase.epochs, int) or phase.epochs < 1:
        raise UserError(f"{where}: epochs is {phase.epochs!r}; give an integer above 0.")
    if not isinstance(phase.batch, int) or phase.batch < 2:
        raise UserError(f"{where}: batch is {phase.batch!r}; BatchNorm needs an integer above 1.")
    for key in ("learning_rate", "sigma"):
        if getattr(phase, key) <= 0:
            raise UserError(f"{where}: {key} is {getattr(phase, key)!r}; give a number above 0.")
    if "teacher_kl" in phase.losses and phase.teacher is None:
        raise UserError(f"{where}: loss teacher_kl needs the key 'teacher', the name of an earlier phase.")
    return dataclasses.replace(phase, size=(size[0], size[1]))


def _path(text: str, folder: Path, where: str) -> Path:
    expanded = os.path.expandvars(text)
    if "$" in expanded:
        raise UserError(f"{where} is {text!r}, and that environment variable is not set; set it to the data's folder.")
    return (folder / expanded).resolve()


def load_recipe(path: Path) -> Recipe:
    """Read a recipe; paths in it are relative to the file and may name environment variables.

    Raises:
        UserError: the file is missing or not YAML, or a key is unknown, missing or out of range.
    """
    import yaml

    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"recipe {path} cannot be read: {error.strerror}; check the path.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"recipe {path} is not YAML: {' '.join(str(error).split())}.") from error
    where = f"recipe {path}"
    if not isinstance(values, dict):
        raise UserError(f"{where} is not a mapping of keys to values.")
    phases = values.get("phases")
    if not isinstance(phases, list) or not phases:
        raise UserError(f"{where}: key 'phases' is missing or empty; list at least one phase.")
    values["phases"] = tuple(_phase(phase, f"{where}: phase {i}") for i, phase in enumerate(phases, start=1))
    seen: set[str] = set()
    for phase in values["phases"]:
        if phase.name in seen:
            raise UserError(f"{where}: two phases are named {phase.name!r}; names must be distinct.")
        if phase.teacher is not None and phase.teacher not in seen:
            raise UserError(f"{where}: the teacher {phase.teacher!r} of {phase.name!r} is not an earlier phase.")
        seen.add(phase.name)
    for key in ("train_annotations", "train_images", "val_annotations", "val_images"):
        if key in values:
            values[key] = _path(str(values[key]), path.parent, f"{where}: {key}")
    if "augmentation" in values:
        values["augmentation"] = _build(Augmentation, values["augmentation"], f"{where}: augmentation")
    recipe = _build(Recipe, values, where)
    preset(recipe.preset)
    return recipe
