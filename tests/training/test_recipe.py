from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from bihrnet_edge.errors import UserError
from bihrnet_edge.training.recipe import bundled_recipes, load_recipe

GOOD: dict[str, Any] = {
    "name": "r",
    "preset": "bihrnet-small",
    "train_annotations": "train.json",
    "train_images": "images",
    "val_annotations": "val.json",
    "val_images": "images",
    "phases": [
        {"name": "a", "network": "twin", "size": [64, 64], "epochs": 1, "losses": {"awing": 1}},
        {"name": "b", "network": "binary", "size": [96, 96], "epochs": 1, "losses": {"teacher_kl": 1}, "teacher": "a"},
    ],
}  # fmt: skip

BINARY: dict[str, Any] = GOOD["phases"][0] | {"name": "b", "network": "binary"}


def _write(folder: Path, content: Any) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


def test_paths_are_relative_to_the_recipe(tmp_path: Path) -> None:
    recipe = load_recipe(_write(tmp_path, GOOD))
    assert recipe.train_images == tmp_path / "images"
    assert recipe.phases[1].size == (96, 96)
    assert recipe.model_config(14, "twin").binary is False
    assert recipe.model_config(14, "binary-activations").binary is True


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"colour": 1}, "colour"),
        ({"preset": "vgg"}, "vgg"),
        ({"phases": []}, "phases"),
        ({"phases": [3]}, "phase 1"),
        ({"seed": "x"}, "seed"),
        ({"augmentation": {"zoom": 1}}, "zoom"),
        ({"augmentation": {"scale": -1}}, "augmentation scale"),
        ({"phases": [GOOD["phases"][0] | {"size": [60, 64]}]}, "size"),
        ({"phases": [GOOD["phases"][0] | {"size": 64}]}, "size"),
        ({"phases": [GOOD["phases"][0] | {"losses": {"l1": 1}}]}, "l1"),
        ({"phases": [GOOD["phases"][0] | {"losses": {"mse": "x"}}]}, "mse"),
        ({"phases": [GOOD["phases"][0] | {"losses": {}}]}, "losses"),
        ({"phases": [GOOD["phases"][0] | {"epochs": 0}]}, "epochs"),
        ({"phases": [GOOD["phases"][0] | {"batch": 1}]}, "batch"),
        ({"phases": [GOOD["phases"][0] | {"learning_rate": -1}]}, "learning_rate"),
        ({"phases": [GOOD["phases"][0] | {"network": "ternary"}]}, "ternary"),
        ({"phases": [GOOD["phases"][0] | {"losses": {"teacher_kl": 1}}]}, "teacher"),
        ({"phases": [GOOD["phases"][0], GOOD["phases"][0]]}, "distinct"),
        ({"phases": [BINARY | {"losses": {"teacher_kl": 1}, "teacher": "c"}, BINARY | {"name": "c"}]}, "earlier phase"),
        ({"phases": [GOOD["phases"][0], GOOD["phases"][1] | {"size": [64, 32]}]}, "'b' has another aspect"),
        ({"phases": [GOOD["phases"][0] | {"network": "binary-activations"}]}, "last phase 'a'"),
        ({"name": "../r"}, "'../r' becomes a file's name"),
        ({"name": "r\n"}, "becomes a file's name"),
        ({"name": "r" * 101}, "becomes a file's name"),
        ({"name": ""}, "becomes a file's name"),
        ({"name": 5}, "name is 5"),
        ({"name": "state"}, "state.pt"),
        ({"name": "b"}, "named 'b' like the recipe"),
        ({"phases": [GOOD["phases"][0] | {"name": "a/b"}]}, "'a/b' becomes a file's name"),
        ({"phases": [GOOD["phases"][0] | {"name": ".a"}]}, "'.a' becomes a file's name"),
        ({"phases": [GOOD["phases"][0] | {"name": "state"}]}, "state.pt"),
        ({"phases": [GOOD["phases"][0] | {"name": ["a"]}]}, "name is \\['a'\\]"),
        ({"phases": [GOOD["phases"][0], GOOD["phases"][1] | {"teacher": ["a"]}]}, "teacher is \\['a'\\]"),
        ({"phases": [GOOD["phases"][0] | {"network": {"a": 1}}]}, "network is"),
        ({"preset": ["bihrnet-small"]}, "preset is"),
        ({"block": None}, "block is None"),
        ({"block": "dense"}, "block is 'dense'"),
        ({"bottleneck": ["ir"]}, "bottleneck is"),
        ({"train_images": ["images"]}, "train_images is"),
        ({"seed": -1}, "seed"),
        ({"seed": 1.0}, "seed"),
        ({"seed": True}, "seed"),
        ({"canvas": 31}, "canvas"),
        ({"canvas": 1025}, "canvas"),
        ({"canvas": 160.0}, "canvas"),
        ({"phases": [GOOD["phases"][0] | {"weight_decay": -1e-4}]}, "weight_decay"),
        ({"phases": [GOOD["phases"][0] | {"warmup": 1}]}, "warmup"),
        ({"phases": [GOOD["phases"][0] | {"warmup": -0.1}]}, "warmup"),
        ({"phases": [GOOD["phases"][0] | {"learning_rate": float("nan")}]}, "learning_rate"),
        ({"phases": [GOOD["phases"][0] | {"schedule": "linear"}]}, "schedule is 'linear'"),
        ({"phases": [GOOD["phases"][0] | {"schedule": "step"}]}, "milestones"),
        ({"phases": [GOOD["phases"][0] | {"milestones": [1], "epochs": 3}]}, "milestones"),
        ({"phases": [GOOD["phases"][0] | {"schedule": "step", "milestones": [1], "epochs": 1}]}, "milestones is"),
        ({"phases": [GOOD["phases"][0] | {"schedule": "step", "milestones": 1}]}, "milestones is 1"),
        ({"phases": [GOOD["phases"][0] | {"gamma": 0}]}, "gamma"),
        ({"phases": [GOOD["phases"][0] | {"gradient_clip": -1}]}, "gradient_clip"),
        ({"phases": [GOOD["phases"][0] | {"gradient_clip": "off"}]}, "gradient_clip"),
        ({"phases": [GOOD["phases"][0] | {"ema_decay": 1}]}, "ema_decay"),
        ({"phases": [GOOD["phases"][0] | {"temperature": 0}]}, "temperature"),
        ({"phases": [GOOD["phases"][0] | {"early_stopping": 1.5}]}, "early_stopping"),
        ({"phases": [GOOD["phases"][0] | {"early_stopping": 1}]}, "early_stopping of phase 'a' needs tuning_share"),
        ({"phases": [GOOD["phases"][0] | {"losses": {"feature": 1}}]}, "feature needs the key 'teacher'"),
        ({"phases": [GOOD["phases"][0] | {"exact": 1}]}, "exact is 1"),
        ({"phases": [GOOD["phases"][0] | {"exact": True}]}, "exact is true"),
        ({"phases": [GOOD["phases"][0], BINARY | {"exact": True}]}, "exact phase 'b' needs a binary phase"),
        ({"phases": [BINARY, BINARY | {"name": "c", "exact": True}, BINARY | {"name": "d"}]}, "exact: true"),
        ({"phases": [BINARY, GOOD["phases"][0]]}, "network of phase 'a' is twin after binary"),
        ({"phases": [GOOD["phases"][0] | {"init": "none.pt"}]}, "init of phase 'a' is 'none.pt'"),
        ({"phases": [GOOD["phases"][0] | {"init": 1}]}, "init is 1"),
        ({"phases": [GOOD["phases"][0], GOOD["phases"][1] | {"teacher": "none.pt"}]}, "teacher of phase 'b'"),
        ({"tuning_share": 1}, "tuning_share"),
        ({"tuning_share": "a tenth"}, "tuning_share"),
        ({"precision": 16}, "precision is 16"),
        ({"augmentation": {"flip": 1.5}}, "augmentation flip"),
        ({"data": "file"}, "data is not a mapping"),
        ({"data": {"cach": "file"}}, "data: unknown key 'cach'"),
        ({"data": {"cache": "disk"}}, "data: cache is 'disk'"),
        ({"data": {"cache": None}}, "data: cache is None"),
        ({"data": {"cache": "file", "workers": -1}}, "data: workers is -1"),
        ({"data": {"cache": "file", "workers": 1.5}}, "data: workers is 1.5"),
        ({"data": {"cache": "file", "workers": True}}, "data: workers is True"),
        ({"data": {"workers": 1}}, "data: workers have nothing to read"),
        ({"augmentation": {"half_body": 2}}, "augmentation half_body"),
    ],
)
def test_errors_name_the_key(tmp_path: Path, change: dict[str, Any], named: str) -> None:
    with pytest.raises(UserError, match=named):
        load_recipe(_write(tmp_path, GOOD | change))


def test_bounds_are_inside(tmp_path: Path) -> None:
    edge = {"seed": 2**70, "canvas": 1024, "name": "R" * 100, "block": "basic"}
    phases = [GOOD["phases"][0] | {"weight_decay": 0, "warmup": 0, "size": [64, 32], "teacher": None}]
    phases += [GOOD["phases"][1] | {"size": [128, 64]}]
    recipe = load_recipe(_write(tmp_path, GOOD | edge | {"phases": phases}))
    assert (recipe.seed, recipe.canvas, recipe.phases[0].warmup) == (2**70, 1024, 0)


def test_missing_key_and_bad_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="preset"):
        load_recipe(_write(tmp_path, {k: v for k, v in GOOD.items() if k != "preset"}))
    with pytest.raises(UserError, match="not YAML"):
        load_recipe(_write(tmp_path, "a: [1"))
    with pytest.raises(UserError, match="mapping"):
        load_recipe(_write(tmp_path, "- 1"))
    with pytest.raises(UserError, match="cannot be read"):
        load_recipe(tmp_path / "none.yaml")
    with pytest.raises(UserError, match="not YAML"):
        load_recipe(_write(tmp_path, "!!python/object/apply:os.mkdir ['x']"))


def test_environment_variables_in_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _write(tmp_path, GOOD | {"train_images": "${POSE_DATA}/images"})
    monkeypatch.delenv("POSE_DATA", raising=False)
    with pytest.raises(UserError, match="POSE_DATA"):
        load_recipe(path)
    monkeypatch.setenv("POSE_DATA", str(tmp_path / "data"))
    assert load_recipe(path).train_images == tmp_path / "data" / "images"


@pytest.mark.parametrize("name", bundled_recipes())
def test_bundled_recipes_load(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BIHRNET_DATA", str(tmp_path))
    recipe = load_recipe(name)
    for key in ("train_annotations", "train_images", "val_annotations", "val_images"):
        assert getattr(recipe, key).is_relative_to(tmp_path)
    # From the twin to the form that is deployed; nothing is learnt from the people that are measured on.
    assert [phase.network for phase in recipe.phases][:: len(recipe.phases) - 1] == ["twin", "binary"]
    assert recipe.phases[-1].exact
    assert recipe.val_annotations != recipe.train_annotations
    # Canvases hold all that the largest input can show of people who fill it.
    assert recipe.canvas >= recipe.phases[-1].size[0]
    height, width = recipe.phases[-1].size
    assert name in ("lsp-small", "lsp-w32") or name.endswith(f"{height}x{width}")
    monkeypatch.delenv("BIHRNET_DATA")
    with pytest.raises(UserError, match="BIHRNET_DATA"):
        load_recipe(name)


def test_recipes_for_coco_and_mpii_are_bundled() -> None:
    assert set(bundled_recipes()) >= {"coco-256x192", "coco-384x288", "mpii-256x256", "lsp-small", "lsp-w32"}


def test_a_bundled_recipe_goes_by_its_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BIHRNET_DATA", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert "lsp-small" in bundled_recipes()
    assert load_recipe("lsp-small").name == "bihrnet-small-lsp"
    with pytest.raises(UserError, match=r"one of the bundled .*lsp-small"):
        load_recipe("lsp-smal")


def test_checkpoints_are_named_by_path_or_bundled_name(tmp_path: Path) -> None:
    (tmp_path / "start.pt").write_bytes(b"")
    phases = [GOOD["phases"][0] | {"init": "start.pt"}, GOOD["phases"][1] | {"teacher": "bihrnet-small-lsp"}]
    recipe = load_recipe(_write(tmp_path, GOOD | {"phases": phases}))
    assert recipe.phases[0].init == str(tmp_path / "start.pt")
    assert recipe.phases[1].teacher == "bihrnet-small-lsp"
    phases[1]["teacher"] = "start.pt"
    assert load_recipe(_write(tmp_path, GOOD | {"phases": phases})).phases[1].teacher == str(tmp_path / "start.pt")
