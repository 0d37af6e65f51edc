"""Training on a toy: two coloured discs whose centres are the joints."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from bihrnet_edge.data.dataset import PoseDataset
from bihrnet_edge.data.person import Person
from bihrnet_edge.errors import UserError
from bihrnet_edge.model.checkpoint import load_checkpoint
from bihrnet_edge.pose.crop import box_to_crop, crop_image
from bihrnet_edge.pose.keypoints import KeypointSet
from bihrnet_edge.pose.metadata import PoseMetadata
from bihrnet_edge.training.augment import MARGIN, Augmentation, CropCache
from bihrnet_edge.training.recipe import Phase, Recipe
from bihrnet_edge.training.trainer import Trainer

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
    assert whole.state.keys() == parts.state.keys()
    for name, tensor in whole.state.items():
        assert torch.equal(tensor, parts.state[name]), name
    packed = load_checkpoint(tmp_path / "parts" / "toy.pt")
    assert packed.config.binary
    assert packed.metadata.keypoints == JOINTS
    lines = [json.loads(line) for line in (tmp_path / "whole" / "log.jsonl").read_text().splitlines()]
    assert [(e["event"], e["phase"]) for e in lines].count(("epoch", "twin")) == 3
    assert all(0 <= e["val_pck"] <= 100 for e in lines)


@pytest.mark.slow
def test_loss_falls_and_the_toy_is_learnt(toy: PoseDataset, tmp_path: Path) -> None:
    recipe = _recipe(epochs=40, learning_rate=5e-3, losses={"target_kl": 1.0}, size=(64, 64))
    recipe = dataclasses.replace(
        recipe, phases=recipe.phases[:1], augmentation=Augmentation(0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    )
    Trainer(recipe, tmp_path, toy, toy).run()
    entries = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert entries[-1]["losses"]["target_kl"] < 0.3 * entries[0]["losses"]["target_kl"]
    assert entries[-1]["val_pck"] > 90


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
