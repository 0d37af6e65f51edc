"""``calibrate --reestimate``: a checkpoint's BatchNorm statistics become those of the calibration people."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from export_helpers import tiny_checkpoint

from bihrnet_edge.console import Advance
from bihrnet_edge.data.dataset import load_annotations
from bihrnet_edge.export.calibrate import MIN_IMAGES, reestimate, statistics_batch
from bihrnet_edge.runtimes.crops import person_batches


def test_no_batch_is_of_one_image() -> None:
    for images in range(MIN_IMAGES, 5000):
        batch = statistics_batch(images)
        assert images % batch != 1
        assert batch >= 16


@pytest.mark.parametrize(("people", "batches"), [(17, (17,)), (33, (17, 16))])
def test_statistics_are_those_of_the_people(dot_people: Path, people: int, batches: tuple[int, ...]) -> None:
    """The first convolution's against a convolution here; nothing else changes, nor does what was given."""
    checkpoint = tiny_checkpoint()
    before = {name: tensor.clone() for name, tensor in checkpoint.state.items()}
    dataset = load_annotations(dot_people / "people.json", dot_people / "images")
    dataset = dataclasses.replace(dataset, people=(dataset.people * 4)[:people])
    counts: list[int] = []

    @contextlib.contextmanager
    def step(description: str) -> Iterator[Advance]:
        yield lambda done, total: counts.append(done)

    fitted, constant = reestimate(checkpoint, dataset, step=step)
    assert tuple(b - a for a, b in zip((0, *counts), counts, strict=False)) == batches
    assert all(torch.equal(tensor, before[name]) for name, tensor in checkpoint.state.items())

    inputs = torch.cat(
        [torch.from_numpy(images) for _, images, _ in person_batches(dataset.people, checkpoint.metadata, 8)]
    )
    padded = F.pad(inputs.permute(0, 3, 1, 2).double(), (0, 1, 0, 1))  # SAME at stride 2
    outputs = F.conv2d(padded, before["stem.0.conv.weight"].double(), stride=2)
    means = torch.stack([part.mean(dim=(0, 2, 3)) for part in outputs.split(batches)]).mean(dim=0)
    variances = torch.stack([part.var(dim=(0, 2, 3)) for part in outputs.split(batches)]).mean(dim=0)
    torch.testing.assert_close(fitted.state["stem.0.bn.running_mean"].double(), means, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(fitted.state["stem.0.bn.running_var"].double(), variances, rtol=1e-4, atol=1e-6)

    statistics = {name for name in before if name.endswith(("running_mean", "running_var"))}
    changed = {name for name, tensor in fitted.state.items() if not torch.equal(tensor, before[name])}
    assert changed <= statistics | {name for name in before if name.endswith("num_batches_tracked")}
    assert {name for name in changed if name.endswith("running_var")} == {
        name for name in statistics if name.endswith("running_var")
    }
    still = sum(int((fitted.state[name] == before[name]).sum()) for name in statistics if name.endswith("running_var"))
    assert constant == still
    fitted.build()
