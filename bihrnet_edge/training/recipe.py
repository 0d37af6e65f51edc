"""A training recipe: a YAML file of data, network and phases. Errors name the key."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from bihrnet_edge.errors import UserError
from bihrnet_edge.model.config import BlockName, BottleneckName, ModelConfig, preset
from bihrnet_edge.model.zoo import bundled_path
from bihrnet_edge.training.augment import Augmentation
from bihrnet_edge.training.keys import build, check_choice, is_int
from bihrnet_edge.training.phase import Network, Phase, check_name, check_phases, read_phase

#: What Lightning Fabric calls them: full precision, or automatic mixed precision.
Precision = Literal["32-true", "bf16-mixed", "16-mixed"]
#: Where people are read from while training.
Cache = Literal["memory", "file", "none"]
_PATH_KEYS = ("train_annotations", "train_images", "val_annotations", "val_images")
_CANVAS = (32, 1024)
_RECIPES = Path(__file__).parent / "recipes"


@dataclass(frozen=True)
class Data:
    """How people get from their images into batches; what is trained does not depend on it.

    Attributes:
        cache: ``memory`` keeps the canvases on the device that trains, ``file`` reads them from the run's folder,
            ``none`` cuts them from the images whenever they are wanted.
        workers: processes that read ahead, of each training process; 0 reads in between.
    """

    cache: Cache = "memory"
    workers: int = 0


@dataclass(frozen=True)
class Recipe:
    """Everything that a run depends on, apart from the machine.

    Attributes:
        name: of the run's last checkpoint.
        preset, block, bottleneck: the network.
        train_annotations, train_images: what is trained on.
        val_annotations, val_images: what is measured on, and nothing else.
        phases: in order.
        seed: of everything that is random.
        canvas: height at which people are cut from their images, pixels.
        data: how they get into batches.
        tuning_share: share of the training images set apart to choose by (``early_stopping``).
        precision: what Lightning Fabric computes in.
        augmentation: ranges of the random changes.
    """

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
    data: Data = field(default_factory=Data)
    tuning_share: float = 0.0
    precision: Precision = "32-true"
    augmentation: Augmentation = field(default_factory=Augmentation)

    def model_config(self, keypoints: int, network: Network) -> ModelConfig:
        config = dataclasses.replace(
            preset(self.preset, keypoints=keypoints), block=self.block, bottleneck=self.bottleneck
        )
        return dataclasses.replace(config, binary=network != "twin")

    def phase(self, name: str) -> Phase | None:
        """The phase of that name, or None."""
        return next((phase for phase in self.phases if phase.name == name), None)


def bundled_recipes() -> list[str]:
    """Names of the recipes that ship with the package."""
    return sorted(path.stem for path in _RECIPES.glob("*.yaml"))


def recipe_path(source: str | Path) -> Path:
    """The file of a recipe given as a path or as the name of a bundled one."""
    return _RECIPES / f"{source}.yaml" if str(source) in bundled_recipes() else Path(source)


def _path(text: object, folder: Path, where: str) -> Path:
    if not isinstance(text, str):
        raise UserError(f"{where} is {text!r}; give a path as a string.")
    expanded = os.path.expandvars(text)
    if "$" in expanded:
        raise UserError(f"{where} is {text!r}, and that environment variable is not set; set it to the data's folder.")
    return (folder / expanded).resolve()


def _checkpoint(text: str, folder: Path, where: str) -> str:
    """A checkpoint that a phase names: a bundled name as it is, or the full path of a file."""
    if bundled_path(text) is not None:
        return text
    path = _path(text, folder, where)
    if not path.is_file():
        raise UserError(f"{where} is {text!r}, and there is no file {path}; give a checkpoint or a bundled name.")
    return str(path)


def _with_checkpoints(phases: list[Phase], folder: Path, where: str) -> tuple[Phase, ...]:
    """The phases with their checkpoints' paths resolved; a teacher may also be an earlier phase."""
    resolved: list[Phase] = []
    for phase in phases:
        changes: dict[str, str] = {}
        if phase.init is not None:
            changes["init"] = _checkpoint(phase.init, folder, f"{where}: init of phase {phase.name!r}")
        if phase.teacher is not None and phase.teacher not in {p.name for p in resolved}:
            if phase.teacher in {p.name for p in phases}:
                raise UserError(f"{where}: the teacher {phase.teacher!r} of {phase.name!r} is not an earlier phase.")
            key = f"{where}: teacher of phase {phase.name!r}, which is not an earlier phase,"
            changes["teacher"] = _checkpoint(phase.teacher, folder, key)
        resolved.append(dataclasses.replace(phase, **changes))  # type: ignore[arg-type]
    return tuple(resolved)


def load_recipe(source: str | Path) -> Recipe:
    """Read a recipe, given as a path or a bundled name.

    Paths in it are relative to the file and may name environment variables.

    Raises:
        UserError: the file is missing or not YAML, or a key is unknown, missing or out of range.
    """
    import yaml

    path = recipe_path(source)
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(
            f"recipe {path} cannot be read: {error.strerror}; "
            f"give a path or one of the bundled {', '.join(bundled_recipes())}."
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"recipe {path} is not YAML: {' '.join(str(error).split())}.") from error
    where = f"recipe {path}"
    if not isinstance(values, dict):
        raise UserError(f"{where} is not a mapping of keys to values.")
    phases = values.get("phases")
    if not isinstance(phases, list) or not phases:
        raise UserError(f"{where}: key 'phases' is missing or empty; list at least one phase.")
    read = [read_phase(phase, f"{where}: phase {i}") for i, phase in enumerate(phases, start=1)]
    check_phases(tuple(read), where)
    values["phases"] = _with_checkpoints(read, path.parent, where)
    for key in _PATH_KEYS:
        if key in values:
            values[key] = _path(values[key], path.parent, f"{where}: {key}")
    if "augmentation" in values:
        values["augmentation"] = _augmentation(values["augmentation"], f"{where}: augmentation")
    if "data" in values:
        values["data"] = _data(values["data"], f"{where}: data")
    recipe = build(Recipe, values, where)
    _check(recipe, where)
    return recipe


def _augmentation(values: object, where: str) -> Augmentation:
    augmentation = build(Augmentation, values, where)
    for key, value in dataclasses.asdict(augmentation).items():
        if not value >= 0:
            raise UserError(f"{where} {key} is {value!r}; give a number of 0 or more.")
    for key in ("flip", "half_body", "contrast", "saturation", "brightness"):
        if getattr(augmentation, key) > 1:
            raise UserError(f"{where} {key} is {getattr(augmentation, key)!r}; give a number from 0 to 1.")
    return augmentation


def _data(values: object, where: str) -> Data:
    data = build(Data, values, where)
    check_choice(data.cache, get_args(Cache), where, "cache")
    if not is_int(data.workers) or data.workers < 0:
        raise UserError(f"{where}: workers is {data.workers!r}; give a number of processes, 0 for none.")
    if data.workers and data.cache == "memory":
        raise UserError(
            f"{where}: workers have nothing to read where cache is memory; give file or none, or 0 workers."
        )
    return data


def _check(recipe: Recipe, where: str) -> None:
    check_name(recipe.name, where)
    if recipe.phase(recipe.name) is not None:
        raise UserError(f"{where}: a phase is named {recipe.name!r} like the recipe; their files need two names.")
    if not is_int(recipe.seed) or recipe.seed < 0:
        raise UserError(f"{where}: seed is {recipe.seed!r}; give an integer, 0 or above.")
    low, high = _CANVAS
    if not is_int(recipe.canvas) or not low <= recipe.canvas <= high:
        raise UserError(f"{where}: canvas is {recipe.canvas!r}; give an integer from {low} to {high}.")
    if not 0 <= recipe.tuning_share < 1:
        raise UserError(f"{where}: tuning_share is {recipe.tuning_share!r}; give a share from 0 to below 1.")
    for phase in recipe.phases:
        if phase.early_stopping and not recipe.tuning_share:
            raise UserError(
                f"{where}: early_stopping of phase {phase.name!r} needs tuning_share above 0, the share of the "
                "training images to choose by."
            )
    check_choice(recipe.precision, get_args(Precision), where, "precision")
    recipe.model_config(keypoints=1, network="twin")  # refuses an unknown preset, block or bottleneck
