"""Training on a toy: two coloured discs whose centres are the joints."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from rich.progress import Progress, TextColumn

from bihrnet_edge.data.dataset import PoseDataset
from bihrnet_edge.data.person import Person
from bihrnet_edge.errors import UserError
from bihrnet_edge.model.checkpoint import load_checkpoint
from bihrnet_edge.model.exact import make_exact
from bihrnet_edge.pose.crop import box_to_crop, crop_image, read_image
from bihrnet_edge.pose.keypoints import KeypointSet
from bihrnet_edge.pose.metadata import PoseMetadata
from bihrnet_edge.training import augment
from bihrnet_edge.training.augment import MARGIN, Augmentation, CropCache
from bihrnet_edge.training.command import progress_columns
from bihrnet_edge.training.recipe import Phase, Recipe
from bihrnet_edge.training.trainer import Trainer, _State

JOINTS = KeypointSet("toy", ("right_shoulder", "left_hip", "left_shoulder"))
COLOURS = ("red", "lime", "blue")


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> PoseDataset:
    folder = tmp_path_factory.mktemp("toy")
    rng = np.random.default_rng(0)
    people = []
    for i in range(12):
        image = Image.new("RGB", (80, 80))
        points = rng.uniform(15, 65, (3, 2))
        for (x, y), colour in zip(points, COLOURS, strict=True):
            ImageDraw.Draw(image).ellipse((x - 5, y - 5, x + 5, y + 5), fill=colour)
        image.save(folder / f"{i}.png")
        people.append(
            Person(folder / f"{i}.png", i, i, (8.0, 8.0, 64.0, 64.0), points.astype(np.float32), np.ones(3, bool))
        )
    return PoseDataset("toy", JOINTS, people, {})


def _recipe(**phase: object) -> Recipe:
    nowhere = Path("unused")
    first = Phase("twin", "twin", (32, 32), 3, {"awing": 0.2, "target_kl": 1.0}, batch=4)
    second = Phase("bits", "binary", (32, 32), 2, {"awing": 0.2, "teacher_kl": 1.0}, teacher="twin", batch=4)
    phases = (dataclasses.replace(first, **phase), second)  # type: ignore[arg-type]
    return Recipe("toy", "bihrnet-small", nowhere, nowhere, nowhere, nowhere, phases, canvas=64)


class _KilledError(Exception):
    pass


def _assert_same(a: Mapping[str, torch.Tensor], b: Mapping[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    for name, tensor in a.items():
        assert torch.equal(tensor, b[name]), name


@pytest.mark.slow
def test_killed_training_resumes_to_the_same_bits(toy: PoseDataset, tmp_path: Path) -> None:
    torch.manual_seed(123)  # the run must not depend on this
    whole = Trainer(_recipe(), tmp_path / "whole", toy, toy).run()

    def kill_at(phase: str, at: int) -> object:
        def progress(name: str, step: int, steps: int, figures: dict[str, float]) -> None:
            if (name, step) == (phase, at):
                raise _KilledError

        return progress

    torch.manual_seed(321)
    for phase, at in (("twin", 5), ("bits", 4)):
        with pytest.raises(_KilledError):
            Trainer(_recipe(), tmp_path / "parts", toy, toy, kill_at(phase, at), save_seconds=0).run()  # type: ignore[arg-type]
    parts = Trainer(_recipe(), tmp_path / "parts", toy, toy).run()
    assert whole.config.integer_stem
    _assert_same(whole.state, parts.state)
    packed = load_checkpoint(tmp_path / "parts" / "toy.pt")
    assert packed.config.integer_stem
    assert packed.metadata.keypoints == JOINTS
    _assert_same(packed.state, whole.state)
    lines = [json.loads(line) for line in (tmp_path / "whole" / "log.jsonl").read_text().splitlines()]
    assert [(e["event"], e["phase"]) for e in lines].count(("epoch", "twin")) == 3
    assert all(0 <= e["val_pck"] <= 100 for e in lines)


@pytest.mark.slow
def test_loss_falls_and_the_toy_is_learnt(toy: PoseDataset, tmp_path: Path) -> None:
    recipe = _recipe(epochs=14, learning_rate=1e-2, losses={"target_kl": 1.0}, size=(64, 64))
    recipe = dataclasses.replace(
        recipe, phases=recipe.phases[:1], augmentation=Augmentation(0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    )
    Trainer(recipe, tmp_path, toy, toy).run()
    entries = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
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


def _untrained(trainer: Trainer, phase: Phase, state: _State) -> dict[str, torch.Tensor]:
    return trainer._network(phase.network, state.model).state_dict()


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
    phase = trainer.recipe.phases[0]
    orders = [torch.cat([i for _, i in trainer._steps(phase, seed, 3, 0)]).tolist() for seed in (2**70 + 1, 2**80)]
    assert sorted(orders[0]) == sorted([*range(12)] * phase.epochs)
    assert orders[0] != orders[1]
    assert len(list(trainer._plain_batches(phase, trainer._metadata(phase), 2**70))) == 3


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
        ({}, renamed),
    ):
        with pytest.raises(UserError, match=r"state\.pt is of recipe 'toy' with another .* remove that file"):
            Trainer(dataclasses.replace(recipe, **change), tmp_path, data, data).run()


def test_joints_without_a_torso_are_refused(toy: PoseDataset, tmp_path: Path) -> None:
    hand = dataclasses.replace(toy, keypoints=KeypointSet("hand", ("wrist", "thumb", "index")))
    with pytest.raises(UserError, match="'hand' has no joint 'right_shoulder'"):
        Trainer(_recipe(), tmp_path, hand, hand)
    assert not list(tmp_path.iterdir())


def test_crop_cache_is_of_its_crops(toy: PoseDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []

    def counted(path: Path) -> object:
        read.append(path)
        return read_image(path)

    monkeypatch.setattr(augment, "read_image", counted)
    path, metadata = tmp_path / "crops.npy", PoseMetadata("toy", 64, 64, JOINTS)

    def build(data: PoseDataset, metadata: PoseMetadata, height: int = 64) -> bool:
        """Whether the images were read; the canvases are as without a cache."""
        read.clear()
        canvases = CropCache.build(data, metadata, canvas_height=height, cache=path).canvases
        fresh = bool(read)
        assert torch.equal(canvases, CropCache.build(data, metadata, canvas_height=height).canvases)
        return fresh

    assert build(toy, metadata)
    assert not build(toy, metadata)
    moved = dataclasses.replace(toy.people[0], box=(0.0, 0.0, 64.0, 64.0))
    swapped = dataclasses.replace(toy, people=[*toy.people[1:], toy.people[0]])
    assert build(dataclasses.replace(toy, people=[moved, *toy.people[1:]]), metadata)
    assert build(swapped, metadata)
    assert build(toy, metadata)
    assert build(toy, dataclasses.replace(metadata, box_padding=1.5))
    assert build(toy, metadata, 65)
    assert not build(toy, metadata, 65)

    content = path.read_bytes()
    for damaged in (content[:-100], content[:20], b"", b"half", b"PK"):
        path.write_bytes(damaged)
        assert build(toy, metadata, 65)
    path.with_suffix(".sha256").unlink()
    assert build(toy, metadata, 65)
    assert {p.name for p in tmp_path.iterdir()} == {"crops.npy", "crops.sha256"}


def test_a_failed_write_leaves_no_half_cache(toy: PoseDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: BinaryIO, canvases: object) -> None:
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(UserError, match="No space left"):
        CropCache.build(toy, PoseMetadata("toy", 64, 64, JOINTS), canvas_height=64, cache=tmp_path / "crops.npy")
    assert not list(tmp_path.iterdir())


def test_progress_shows_brackets_as_they_are() -> None:
    progress = Progress(*progress_columns())
    progress.add_task("[red]x[/nope]", total=1, figures="[bold]1")
    (task,) = progress.tasks
    shown = [str(column(task)) for column in progress.columns if isinstance(column, TextColumn)]
    assert shown == ["[red]x[/nope]", "0/1", "[bold]1"]


def test_unaugmented_batch_equals_the_inference_crop(toy: PoseDataset) -> None:
    metadata = PoseMetadata("toy", 64, 64, JOINTS, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    cache = CropCache.build(toy, metadata, canvas_height=round(80 * MARGIN))
    batch = cache.batch(torch.arange(3), (64, 64), metadata)
    for i, person in enumerate(toy.people[:3]):
        crop = box_to_crop(person.box, 1.0, metadata.box_padding)
        image = np.asarray(Image.open(person.image_path))
        expected = crop_image(image, crop, 64, 64).astype(float) / 255
        assert np.abs(batch.images[i].permute(1, 2, 0).numpy() - expected).mean() < 0.01
        assert batch.points[i].numpy() == pytest.approx(crop.to_input(person.keypoints, (64, 64)), abs=1e-3)


def test_augmented_joints_stay_on_their_colours(toy: PoseDataset) -> None:
    """Whatever the rotation, scale, shift and flip: the pixel at a joint has the joint's colour.

    A flip turns the right shoulder into the left one, so red and blue swap.
    """
    metadata = PoseMetadata("toy", 128, 128, JOINTS, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    cache = CropCache.build(toy, metadata, canvas_height=180)
    augmentation = Augmentation(rotation=90, scale=0.2, shift=0.1, flip=0.5, brightness=0, colour=0)
    flipped = checked = 0
    for seed in range(8):
        batch = cache.batch(torch.arange(12), (128, 128), metadata, augmentation, torch.Generator().manual_seed(seed))
        for image, points, visible in zip(batch.images, batch.points, batch.visible, strict=True):
            colours = []
            for (x, y), seen in zip(points.round().int().tolist(), visible.tolist(), strict=True):
                colours.append(int(image[:, y, x].argmax()) if seen and image[:, y, x].max() > 0.5 else -1)
            assert colours[1] in (1, -1)
            assert colours[0] in (0, 2, -1)
            if colours[0] >= 0 and colours[2] >= 0:
                assert colours[0] + colours[2] == 2 or colours[0] == colours[2]
                flipped += colours[0] == 2
                checked += 1
    assert checked > 20
    assert 0 < flipped < checked
