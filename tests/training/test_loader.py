"""Reading ahead in worker processes: order, bits, failures, and that nothing is left behind."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from bihrnet_edge.data.dataset import PoseDataset, load_annotations
from bihrnet_edge.errors import UserError
from bihrnet_edge.training.augment import Augmentation
from bihrnet_edge.training.loader import stream, worker_losses
from bihrnet_edge.training.networks import phase_metadata
from bihrnet_edge.training.people import People
from bihrnet_edge.training.phase import Phase
from bihrnet_edge.training.processes import make_fabric
from bihrnet_edge.training.recipe import Data, Recipe
from bihrnet_edge.training.trainer import Trainer

STREAMS = [Data("file", 0), Data("file", 1), Data("none", 0), Data("none", 2)]
PHASE = Phase("p", "twin", (64, 64), 2, {"mse": 1.0}, batch=4)
CHANGED = Augmentation(half_body=0.5, half_body_joints=2, contrast=0.3, saturation=0.3)


def _children() -> set[int]:
    """Processes that this one has started and not waited for."""
    return {int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()}


@pytest.fixture(autouse=True)
def _no_worker_is_left() -> Iterator[None]:
    before = _children()
    yield
    deadline = time.monotonic() + 20
    while _children() - before:
        assert time.monotonic() < deadline, "a worker is still there"
        time.sleep(0.05)


def _recipe(data: Data = Data()) -> Recipe:  # noqa: B008
    nowhere = Path("unused")
    return Recipe(
        "toy", "tiny", nowhere, nowhere, nowhere, nowhere, (PHASE,),
        canvas=90, data=data, augmentation=CHANGED, tuning_share=0.2,
    )  # fmt: skip


def _people(toy: PoseDataset, folder: Path, data: Data) -> People:
    return People(_recipe(data), folder, toy, toy, lambda *unused: None)


def _square(request: NDArray[Any]) -> tuple[int, NDArray[Any]]:
    if (request < 0).any():
        raise UserError(f"{int(request.min())} is below zero; give another.")
    return os.getpid(), request**2


@settings(max_examples=10, deadline=None)
@given(st.lists(st.lists(st.integers(0, 1000), max_size=3), max_size=6), st.integers(0, 2))
def test_results_come_in_order(numbers: list[list[int]], workers: int) -> None:
    requests = [np.array(part, np.int64) for part in numbers]
    results = list(stream(_square, requests, workers=workers))
    assert [squares.tolist() for _, squares in results] == [[n**2 for n in part] for part in numbers]
    assert all((pid == os.getpid()) == (workers == 0) for pid, _ in results)


def test_workers_start_at_the_first_result_and_end_when_closed() -> None:
    before = _children()
    results = stream(_square, itertools.repeat(np.arange(3)), workers=1)
    assert _children() == before
    pid, _ = next(results)
    assert pid in _children()
    results.close()
    assert _children() == before


def test_a_failure_in_a_worker_is_its_own_sentence() -> None:
    results = stream(_square, [np.arange(3), np.array([-4]), np.arange(3)], workers=1)
    next(results)
    with pytest.raises(UserError, match=r"^-4 is below zero; give another\.$"):
        next(results)
    with pytest.raises(StopIteration):
        next(results)


def _die(request: NDArray[Any]) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_worker_is_a_sentence() -> None:
    with pytest.raises(UserError, match=r"has ended \(DataLoader worker [^\n]*\); give the recipe fewer"):
        with worker_losses():
            next(stream(_die, [np.arange(3)], workers=1))
    with pytest.raises(RuntimeError, match="of another kind"), worker_losses():
        raise RuntimeError("of another kind")


def test_streamed_batches_are_the_cached_ones(toy: PoseDataset, tmp_path: Path) -> None:
    """To the bit, of one process or of two, from the beginning or from the middle of an epoch."""
    metadata, fabrics = phase_metadata(_recipe(), PHASE, toy.keypoints), (make_fabric(), make_fabric("cpu", 2))

    def batches(people: People, start: int, world: int) -> list[list[torch.Tensor]]:
        with contextlib.closing(people.batches(PHASE, metadata, 3, start, fabrics[world])) as iterator:
            return [[batch.images, batch.points, batch.visible] for batch in iterator]

    def plain(people: People) -> list[torch.Tensor]:
        return list(people.plain_images(PHASE, metadata, 3, None))

    cached = _people(toy, tmp_path, Data())
    expected = {key: batches(cached, *key) for key in ((0, 0), (3, 0), (0, 1))}
    assert [len(part) for part in expected.values()] == [4, 1, 4]
    assert len(expected[0, 1][0][0]) == 2
    for whole, rest in zip(expected[0, 0][3:], expected[3, 0], strict=True):
        assert all(torch.equal(a, b) for a, b in zip(whole, rest, strict=True))
    assert not torch.equal(expected[0, 0][0][0], expected[0, 0][2][0])
    for data in STREAMS:
        people = _people(toy, tmp_path, data)
        assert (people.train.canvases is None) == (data.cache == "none")
        for key, wanted in expected.items():
            for a, b in zip(batches(people, *key), wanted, strict=True):
                assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True)), (data, key)
        assert all(torch.equal(a, b) for a, b in zip(plain(people), plain(cached), strict=True))


def test_a_file_that_workers_wrote_is_the_same(toy: PoseDataset, tmp_path: Path) -> None:
    contents = []
    for data in (Data(), Data("file", 2)):
        folder = tmp_path / str(data.workers)
        folder.mkdir()
        _people(toy, folder, data)
        contents.append([path.read_bytes() for path in sorted(folder.iterdir())])
        assert len(contents[-1]) == 4
    assert contents[0] == contents[1]


def _damage(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:200])


@pytest.mark.parametrize("change", [Path.unlink, _damage])
@pytest.mark.parametrize("data", [Data("none", 1), Data("file", 1), Data("none", 0)])
def test_an_image_that_cannot_be_read_is_named(
    toy_folder: Path, tmp_path: Path, data: Data, change: Callable[[Path], None]
) -> None:
    shutil.copytree(toy_folder, tmp_path / "toy")
    toy = load_annotations(tmp_path / "toy" / "people.json", tmp_path / "toy" / "images")
    change(tmp_path / "toy" / "images" / "7.png")
    recipe = dataclasses.replace(_recipe(data), tuning_share=0.0, phases=(dataclasses.replace(PHASE, batch=6),))
    with pytest.raises(UserError, match=r"^image \S*/images/7\.png (does not exist|cannot be read)[^\n]*$"):
        Trainer(recipe, tmp_path / "run", toy, toy).run()
    assert not list((tmp_path / "run").glob("*.npy"))
