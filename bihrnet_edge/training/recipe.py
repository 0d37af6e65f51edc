"""A training recipe: a YAML file of data, network and phases. Errors name the key."""

from __future__ import annotations

import dataclasses
import math
import os
import re
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
_PATH_KEYS = ("train_annotations", "train_images", "val_annotations", "val_images")
_TEXT_KEYS = ("name", "preset", "block", "bottleneck", "network", "teacher")
_CANVAS = (32, 1024)
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
        if name not in values:
            continue
        if isinstance(spec.default, (int, float)) and not _is_number(values[name]):
            raise UserError(f"{where}: {name} is {values[name]!r}; give a number.")
        optional = values[name] is None and spec.default is None
        if name in _TEXT_KEYS and not isinstance(values[name], str) and not optional:
            raise UserError(f"{where}: {name} is {values[name]!r}; give a string.")
    return cls(**values)


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return _is_int(value) or (isinstance(value, float) and math.isfinite(value))


def _check_name(name: str, where: str) -> None:
    """Names of recipes and phases become names of files."""
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}", name) is None:
        raise UserError(
            f"{where}: the name {name!r} becomes a file's name; give up to 100 letters, digits, '_', '.' and '-', "
            "the first a letter or digit."
        )
    if name == _RESERVED_NAME:
        raise UserError(f"{where}: the name {name!r} is that of the run's own state.pt; choose another.")


def _phase(values: Any, where: str) -> Phase:
    phase = _build(Phase, values, where)
    _check_name(phase.name, where)
    where = f"{where} ({phase.name})"
    if phase.network not in get_args(Network):
        raise UserError(f"{where}: network is {phase.network!r}; choose one of {', '.join(get_args(Network))}.")
    size = phase.size
    sides = isinstance(size, (list, tuple)) and len(size) == 2 and all(_is_int(side) for side in size)
    if not sides or any(side <= 0 or side % INPUT_MULTIPLE for side in size):
        raise UserError(f"{where}: size is {size!r}; give height and width, multiples of {INPUT_MULTIPLE}.")
    if not isinstance(phase.losses, dict) or not phase.losses:
        raise UserError(f"{where}: losses is {phase.losses!r}; give a weight for one or more of {', '.join(LOSSES)}.")
    for name, weight in phase.losses.items():
        if name not in LOSSES:
            raise UserError(f"{where}: unknown loss {name!r}; choose from {', '.join(LOSSES)}.")
        if not _is_number(weight):
            raise UserError(f"{where}: the weight of {name} is {weight!r}; give a number.")
    if not _is_int(phase.epochs) or phase.epochs < 1:
        raise UserError(f"{where}: epochs is {phase.epochs!r}; give an integer above 0.")
    if not _is_int(phase.batch) or phase.batch < 2:
        raise UserError(f"{where}: batch is {phase.batch!r}; BatchNorm needs an integer above 1.")
    for key in ("learning_rate", "sigma"):
        if getattr(phase, key) <= 0:
            raise UserError(f"{where}: {key} is {getattr(phase, key)!r}; give a number above 0.")
    if phase.weight_decay < 0:
        raise UserError(f"{where}: weight_decay is {phase.weight_decay!r}; give 0 or a number above it.")
    if not 0 <= phase.warmup < 1:
        raise UserError(f"{where}: warmup is {phase.warmup!r}; give a share of the steps from 0 to below 1.")
    if "teacher_kl" in phase.losses and phase.teacher is None:
        raise UserError(f"{where}: loss teacher_kl needs the key 'teacher', the name of an earlier phase.")
    return dataclasses.replace(phase, size=(size[0], size[1]))


def _check_phases(phases: tuple[Phase, ...], where: str) -> None:
    """What one phase demands of the others."""
    seen: set[str] = set()
    height, width = phases[0].size
    for phase in phases:
        if phase.name in seen:
            raise UserError(f"{where}: two phases are named {phase.name!r}; names must be distinct.")
        if phase.teacher is not None and phase.teacher not in seen:
            raise UserError(f"{where}: the teacher {phase.teacher!r} of {phase.name!r} is not an earlier phase.")
        # People are cropped once, at the first phase's aspect.
        if phase.size[0] * width != phase.size[1] * height:
            raise UserError(
                f"{where}: size {list(phase.size)} of phase {phase.name!r} has another aspect than the first phase's "
                f"{[height, width]}; give all phases the same ratio of height to width."
            )
        seen.add(phase.name)
    if phases[-1].network == "binary-activations":
        raise UserError(
            f"{where}: the last phase {phases[-1].name!r} is binary-activations, which no checkpoint can hold; "
            "end with a twin or binary phase."
        )


def _path(text: object, folder: Path, where: str) -> Path:
    if not isinstance(text, str):
        raise UserError(f"{where} is {text!r}; give a path as a string.")
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
    _check_phases(values["phases"], where)
    for key in _PATH_KEYS:
        if key in values:
            values[key] = _path(values[key], path.parent, f"{where}: {key}")
    if "augmentation" in values:
        values["augmentation"] = _build(Augmentation, values["augmentation"], f"{where}: augmentation")
        for key, value in dataclasses.asdict(values["augmentation"]).items():
            if not value >= 0:
                raise UserError(f"{where}: augmentation {key} is {value!r}; give a number of 0 or more.")
    recipe = _build(Recipe, values, where)
    _check_name(recipe.name, where)
    if recipe.name in {phase.name for phase in recipe.phases}:
        raise UserError(f"{where}: a phase is named {recipe.name!r} like the recipe; their files need two names.")
    if not _is_int(recipe.seed) or recipe.seed < 0:
        raise UserError(f"{where}: seed is {recipe.seed!r}; give an integer, 0 or above.")
    low, high = _CANVAS
    if not _is_int(recipe.canvas) or not low <= recipe.canvas <= high:
        raise UserError(f"{where}: canvas is {recipe.canvas!r}; give an integer from {low} to {high}.")
    recipe.model_config(keypoints=1, network="twin")  # refuses an unknown preset, block or bottleneck
    return recipe
