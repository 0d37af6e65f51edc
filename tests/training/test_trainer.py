"""Training on the toy: phases, resuming, what a run leaves."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.progress import Progress as RichProgress
from rich.progress import TextColumn
from torch import nn

from bihrnet_edge.data.dataset import PoseDataset
from bihrnet_edge.errors import UserError
from bihrnet_edge.model.checkpoint import load_checkpoint
from bihrnet_edge.model.exact import make_exact
from bihrnet_edge.pose.keypoints import KeypointSet
from bihrnet_edge.training.augment import Augmentation
from bihrnet_edge.training.command import progress_columns
from bihrnet_edge.training.networks import Start, phase_metadata, phase_network
from bihrnet_edge.training.people import People, tuning_split
from bihrnet_edge.training.phase import Phase
from bihrnet_edge.training.processes import make_fabric
from bihrnet_edge.training.recipe import Data, Recipe
from bihrnet_edge.training.state import RunState
from bihrnet_edge.training.trainer import Progress, Trainer

JOINTS = ("right_shoulder", "left_hip", "left_shoulder")


def _recipe(**phase: object) -> Recipe:
    nowhere = Path("unused")
    first = Phase("twin", "twin", (32, 32), 3, {"awing": 0.2, "target_kl": 1.0}, batch=4)
    second = Phase("bits", "binary", (32, 32), 2, {"awing": 0.2, "teacher_kl": 1.0}, teacher="twin", batch=4)
    phases = (dataclasses.replace(first, **phase), second)  # type: ignore[arg-type]
    return Recipe("toy", "tiny", nowhere, nowhere, nowhere, nowhere, phases, canvas=64)


class _KilledError(Exception):
    pass


def _assert_same(a: Mapping[str, torch.Tensor], b: Mapping[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    for name, tensor in a.items():
        assert torch.equal(tensor, b[name]), name


def _log(folder: Path) -> list[dict[str, Any]]:
    """The log without what depends on the clock."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in ("images_per_second", "data_share")} for line in lines]


@pytest.mark.slow
@pytest.mark.parametrize("everything", [pytest.param(False, marks=pytest.mark.thorough), True])
def test_killed_training_resumes_to_the_same_bits(toy: PoseDataset, tmp_path: Path, everything: bool) -> None:
    recipe = _recipe()
    kills, data = [("twin", 5), ("bits", 4)], Data()
    if everything:
        recipe = _recipe(ema_decay=0.9, early_stopping=1, epochs=4, batch=3)
        exact = dataclasses.replace(recipe.phases[1], name="exact", exact=True, ema_decay=0.5, batch=3)
        bits = dataclasses.replace(
            recipe.phases[1], ema_decay=0.9, losses={"mse": 1.0, "feature": 0.5}, schedule="step", milestones=(1,)
        )
        recipe = dataclasses.replace(recipe, phases=(recipe.phases[0], bits, exact), tuning_share=0.3)
        kills = [("twin", 1), ("twin", 3), ("bits", 1), ("exact", 2)]
        data = Data("none", workers=1)

    torch.manual_seed(123)  # the run must not depend on this
    whole = Trainer(recipe, tmp_path / "whole", toy, toy).run()

    def kill_at(phase: str, at: int) -> Progress:
        def progress(name: str, step: int, steps: int, figures: dict[str, float]) -> None:
            if (name, step) == (phase, at):
                raise _KilledError

        return progress

    torch.manual_seed(321)
    recipe = dataclasses.replace(recipe, data=data)  # how people are read changes nothing
    for phase, at in kills:
        with pytest.raises(_KilledError):
            Trainer(recipe, tmp_path / "parts", toy, toy, kill_at(phase, at), save_seconds=0).run()
    parts = Trainer(recipe, tmp_path / "parts", toy, toy).run()
    assert whole.config.integer_stem
    _assert_same(whole.state, parts.state)
    packed = load_checkpoint(tmp_path / "parts" / "toy.pt")
    assert packed.config.integer_stem
    assert packed.metadata.keypoints.keypoints == JOINTS
    _assert_same(packed.state, whole.state)
    lines = _log(tmp_path / "whole")
    assert lines == _log(tmp_path / "parts")
    assert all(0 <= e["val_pck"] <= 100 for e in lines)
    assert ("tuning_pck" in lines[0]) == everything
    if not everything:
        assert [(e["event"], e["phase"]) for e in lines].count(("epoch", "twin")) == 3
    assert lines[-1]["event"] == "final"
    # Run once more on a folder that is finished: nothing is trained, nothing is logged twice.
    _assert_same(Trainer(recipe, tmp_path / "parts", toy, toy).run().state, whole.state)
    assert lines == _log(tmp_path / "parts")


@pytest.mark.slow
def test_the_same_seed_gives_the_same_fifty_losses(toy: PoseDataset, tmp_path: Path) -> None:
    recipe = _recipe(epochs=9, batch=2)
    recipe = dataclasses.replace(recipe, phases=recipe.phases[:1])

    def losses(folder: str, seed: int, wanted: int = 51) -> list[float]:
        curve: list[float] = []

        def keep(name: str, step: int, steps: int, figures: dict[str, float]) -> None:
            if name == "twin":
                curve.append(figures["target_kl"])
                if len(curve) == wanted:
                    raise _KilledError

        with pytest.raises(_KilledError):
            Trainer(dataclasses.replace(recipe, seed=seed), tmp_path / folder, toy, toy, keep).run()
        return curve

    torch.manual_seed(1)
    first = losses("a", 7)
    torch.manual_seed(2)
    assert first == losses("b", 7)
    assert len(first) == 51
    assert first[:2] != losses("c", 8, 2)


@pytest.mark.slow
def test_loss_falls_and_the_toy_is_learnt(toy: PoseDataset, tmp_path: Path) -> None:
    recipe = _recipe(epochs=14, learning_rate=1e-2, losses={"target_kl": 1.0}, size=(64, 64))
    recipe = dataclasses.replace(
        recipe,
        preset="bihrnet-small",
        phases=recipe.phases[:1],
        augmentation=Augmentation(0.0, 0.0, 0.0, 0.0, 0.0, 8, 0.0, 0.0),
    )
    Trainer(recipe, tmp_path, toy, toy).run()
    entries = [entry for entry in _log(tmp_path) if entry["event"] == "epoch"]
    # The logged loss is a running average over about 50 steps, of which this run has 42.
    assert entries[-1]["losses"]["target_kl"] < 0.7 * entries[0]["losses"]["target_kl"]
    assert entries[0]["val_pck"] < 30
    assert entries[-1]["val_pck"] > 70


def test_diverged_training_is_a_sentence(toy: PoseDataset, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not finite at step"):
        Trainer(_recipe(learning_rate=1e30, warmup=0.0), tmp_path, toy, toy).run()


def test_a_folder_of_another_run_is_refused(toy: PoseDataset, tmp_path: Path) -> None:
    recipe = _recipe()
    torch.save(
        {"recipe": "other", "phase": 0, "step": 0, "model": {}, "optimizer": None, "finished": {}},
        tmp_path / "state.pt",
    )
    with pytest.raises(UserError, match="'other'"):
        Trainer(recipe, tmp_path, toy, toy).run()
    (tmp_path / "state.pt").write_bytes(b"half")
    with pytest.raises(UserError, match="remove it"):
        Trainer(recipe, tmp_path, toy, toy).run()


def _untrained(trainer: Trainer, phase: Phase, state: RunState, start: Start) -> dict[str, torch.Tensor]:
    return phase_network(trainer.recipe, phase, len(JOINTS), start.weights).state_dict()


def test_files_of_a_run(toy: PoseDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Trainer, "_run_phase", _untrained)
    recipe = _recipe()
    twin, bits = recipe.phases
    between = dataclasses.replace(twin, name="acts", network="binary-activations")
    returned = Trainer(dataclasses.replace(recipe, phases=(twin, between, bits)), tmp_path, toy, toy).run()
    assert {path.name for path in tmp_path.glob("*.pt")} == {"state.pt", "twin.pt", "bits.pt", "toy.pt"}

    phase, final = load_checkpoint(tmp_path / "bits.pt"), load_checkpoint(tmp_path / "toy.pt")
    assert load_checkpoint(tmp_path / "twin.pt").metadata.name == "toy-twin"
    assert phase.metadata.name == "toy-bits"
    assert not phase.config.integer_stem
    assert final.metadata.name == returned.metadata.name == "toy"
    assert final.config.integer_stem
    _assert_same(final.state, returned.state)
    _assert_same(final.state, make_exact(phase).state)
    assert torch.load(tmp_path / "toy.pt", weights_only=True)["packed"]


def test_a_real_valued_last_phase_is_saved_plain(
    toy: PoseDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Trainer, "_run_phase", _untrained)
    recipe = dataclasses.replace(_recipe(), phases=_recipe().phases[:1], seed=2**70)  # more than torch takes
    assert not Trainer(recipe, tmp_path, toy, toy).run().config.binary
    final = load_checkpoint(tmp_path / "toy.pt")
    assert final.metadata.name == "toy"
    assert not final.config.binary
    assert not torch.load(tmp_path / "toy.pt", weights_only=True)["packed"]


def test_any_seed_makes_steps(toy: PoseDataset, tmp_path: Path) -> None:
    trainer = Trainer(_recipe(), tmp_path, toy, toy)
    phase, people = trainer.recipe.phases[0], trainer.people
    orders = [torch.cat([i for _, i in people.steps(phase, seed, 0)]).tolist() for seed in (2**70 + 1, 2**80)]
    assert sorted(orders[0]) == sorted([*range(12)] * phase.epochs)
    assert orders[0] != orders[1]
    rest = torch.cat([i for _, i in people.steps(phase, 2**80, 5)]).tolist()
    assert rest == orders[1][5 * phase.batch :]
    metadata = phase_metadata(trainer.recipe, phase, toy.keypoints)
    assert len(list(people.plain_images(phase, metadata, 2**70, None))) == 3


def test_a_changed_recipe_does_not_resume(toy: PoseDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Trainer, "_run_phase", _untrained)
    recipe = _recipe()
    Trainer(recipe, tmp_path, toy, toy).run()
    Trainer(dataclasses.replace(recipe, val_images=Path("moved")), tmp_path, toy, toy).run()
    renamed = dataclasses.replace(toy, keypoints=KeypointSet("toy", ("right_shoulder", "left_hip", "nose")))
    for change, data in (
        ({"block": "basic"}, toy),
        ({"phases": _recipe(epochs=4).phases}, toy),
        ({"augmentation": Augmentation(rotation=1.0)}, toy),
        ({"seed": 1}, toy),
        ({"canvas": 65}, toy),
        ({"tuning_share": 0.3}, toy),
        ({"precision": "bf16-mixed"}, toy),
        ({}, renamed),
    ):
        with pytest.raises(UserError, match=r"state\.pt is of recipe 'toy' with another .* remove that file"):
            Trainer(dataclasses.replace(recipe, **change), tmp_path, data, data).run()


def test_joints_without_a_torso_are_refused(toy: PoseDataset, tmp_path: Path) -> None:
    hand = dataclasses.replace(toy, keypoints=KeypointSet("hand", ("wrist", "thumb", "index")))
    with pytest.raises(UserError, match="'hand' has no joint 'right_shoulder'"):
        Trainer(_recipe(), tmp_path, hand, hand)
    assert not list(tmp_path.iterdir())


def test_progress_shows_brackets_as_they_are() -> None:
    progress = RichProgress(*progress_columns())
    progress.add_task("[red]x[/nope]", total=1, figures="[bold]1")
    (task,) = progress.tasks
    shown = [str(column(task)) for column in progress.columns if isinstance(column, TextColumn)]
    assert shown == ["[red]x[/nope]", "0/1", "[bold]1"]


def test_early_stopping_keeps_the_best_epoch(toy: PoseDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Measured 10, 30, 20, 30, 40: with patience 2 the fourth epoch is the last, and the second is kept."""
    values = iter([10.0, 30.0, 20.0, 30.0, 40.0, 0.0])
    kept: list[dict[str, torch.Tensor]] = []

    def evaluate(self: People, model: nn.Module, *unused: object, tuning: bool = False) -> float:
        if not tuning:
            return 0.0
        kept.append({key: value.clone() for key, value in model.state_dict().items()})
        return next(values)

    monkeypatch.setattr(People, "evaluate", evaluate)
    recipe = _recipe(epochs=5, early_stopping=2, batch=2)
    recipe = dataclasses.replace(recipe, phases=recipe.phases[:1], tuning_share=0.3)
    result = Trainer(recipe, tmp_path, toy, toy).run()
    assert [e["epoch"] for e in _log(tmp_path) if e["event"] == "epoch"] == [1, 2, 3, 4]
    weights = {key: value for key, value in result.state.items() if not key.endswith(("mean", "var", "tracked"))}
    _assert_same(weights, {key: kept[1][key] for key in weights})
    assert not torch.equal(kept[1]["head.weight"], kept[3]["head.weight"])


def test_tuning_split_is_by_image(toy: PoseDataset) -> None:
    people = [dataclasses.replace(p, image_path=Path(f"{i // 3}.png")) for i in range(300) for p in toy.people[:1]]
    data = dataclasses.replace(toy, people=people)
    training, tuning = tuning_split(data, 0.2)
    assert sorted([*training.tolist(), *tuning.tolist()]) == list(range(300))
    names = [{people[i].image_path.name for i in part.tolist()} for part in (training, tuning)]
    assert not names[0] & names[1]
    assert 30 <= len(tuning) <= 90
    # Another folder, other people before it: an image stays on its side.
    moved = [dataclasses.replace(p, image_path=Path("/other") / p.image_path) for p in people[150:]]
    again = tuning_split(dataclasses.replace(toy, people=moved), 0.2)[1]
    assert (again + 150).tolist() == [i for i in tuning.tolist() if i >= 150]
    assert len(tuning_split(data, 0.0)[1]) == 0


def test_tuning_share_that_takes_all_is_refused(toy: PoseDataset, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="tuning_share"):
        Trainer(dataclasses.replace(_recipe(), tuning_share=1e-9), tmp_path, toy, toy)


def test_a_batch_that_cannot_be_shared_out_is_refused(toy: PoseDataset, tmp_path: Path) -> None:
    for batch in (3, 2):
        with pytest.raises(UserError, match=f"batch {batch} is shared by 2 processes"):
            Trainer(_recipe(batch=batch), tmp_path, toy, toy, fabric=make_fabric("cpu", 2))
