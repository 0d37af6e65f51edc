"""Predicting many people: workers, and runs that are stopped and taken up again."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bihrnet_edge.data.person import Person
from bihrnet_edge.errors import UserError
from bihrnet_edge.runtimes.base import Runner
from bihrnet_edge.runtimes.partial import PartialPredictions, fingerprint
from bihrnet_edge.runtimes.predictions import predict_people
from bihrnet_edge.runtimes.registry import open_runner


@pytest.fixture
def people(tmp_path: Path) -> list[Person]:
    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    found = []
    for i in range(23):
        path = tmp_path / "images" / f"{i * 7 % 10}.png"
        if not path.exists():
            Image.fromarray(rng.integers(0, 255, (60, 80, 3), np.uint8)).save(path)
        found.append(Person(path, i, i, (5.0 + i, 4, 30, 40), np.zeros((3, 2), np.float32), np.ones(3, bool)))
    return found


@pytest.fixture
def runner(make_tflite: Callable[..., Path]) -> Iterator[Runner]:
    with open_runner(str(make_tflite()), 1) as opened:
        yield opened


@pytest.mark.parametrize("options", [{}, {"flip_test": True}, {"decoding": "dark"}])
def test_workers_and_batches_change_nothing(runner: Runner, people: list[Person], options: dict[str, Any]) -> None:
    alone = predict_people(runner, people, batch=1, **options)
    assert alone.shape == (23, 3, 3)
    counts: list[tuple[int, int]] = []
    for workers, batch in ((0, 8), (1, 4), (2, 8), (3, 50)):
        counts.clear()
        found = predict_people(
            runner, people, batch=batch, workers=workers, progress=lambda *c: counts.append(c), **options
        )
        np.testing.assert_array_equal(found, alone)
        assert counts[-1] == (23, 23)
        assert counts == sorted(counts)
    assert predict_people(runner, [], workers=2).shape == (0, 3, 3)


def test_arguments_out_of_range(runner: Runner, people: list[Person]) -> None:
    for arguments in ({"batch": 0}, {"workers": -1}, {"decoding": "other"}):
        with pytest.raises(UserError):
            predict_people(runner, people, **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stopped_run_goes_on_where_it_was(runner: Runner, people: list[Person], tmp_path: Path, workers: int) -> None:
    whole = predict_people(runner, people)
    file, key = tmp_path / "new" / "partial.npz", {"model": "m"}

    def stop(done: int, total: int) -> None:
        if done >= 12:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict_people(
            runner, people, batch=4, workers=workers, partial=PartialPredictions(file, key, 0), progress=stop
        )
    kept = len(PartialPredictions(file, key).load(23, 3))
    assert 4 <= kept <= 12
    counts: list[int] = []
    again = predict_people(
        runner, people, batch=4, workers=workers, partial=PartialPredictions(file, key),
        progress=lambda done, _: counts.append(done),
    )  # fmt: skip
    np.testing.assert_array_equal(again, whole)
    assert counts[0] == kept
    # Once complete nothing is run: the runner is not even asked.
    done = predict_people(runner, people, partial=PartialPredictions(file, key), progress=lambda *c: None)
    np.testing.assert_array_equal(done, whole)
    assert [path.name for path in file.parent.iterdir()] == ["partial.npz"]


def test_an_unreadable_image_keeps_what_was_done(runner: Runner, people: list[Person], tmp_path: Path) -> None:
    (tmp_path / "images" / "8.png").write_bytes(b"no picture")
    file = tmp_path / "partial.npz"
    with pytest.raises(UserError, match=r"8\.png"):
        predict_people(runner, people, batch=2, workers=2, partial=PartialPredictions(file, {}))
    assert len(PartialPredictions(file, {}).load(23, 3)) > 0


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "partial.npz"
    PartialPredictions(file, {"model": "a", "--decoding": "dark"}).save(np.zeros((2, 3, 3), np.float32))
    with pytest.raises(UserError, match="begun with another model"):
        PartialPredictions(file, {"model": "b", "--decoding": "dark"}).load(5, 3)
    with pytest.raises(UserError, match="begun with another --decoding"):
        PartialPredictions(file, {"model": "a", "--decoding": "quarter"}).load(5, 3)
    for total, joints in ((1, 3), (5, 4)):
        with pytest.raises(UserError, match="is damaged"):
            PartialPredictions(file, {"model": "a"}).load(total, joints)


def test_damaged_files_are_one_sentence(tmp_path: Path) -> None:
    good = tmp_path / "good.npz"
    PartialPredictions(good, {}).save(np.zeros((200, 3, 3), np.float32))
    data = good.read_bytes()
    other = tmp_path / "other.npz"
    np.savez(other, key=np.array(json.dumps([1])), predictions=np.zeros(3))
    contents = [b"", b"text", data[:100], data[:-10], data.replace(b"predictions", b"predicament"), other.read_bytes()]
    np.save(tmp_path / "array.npy", np.zeros(3))
    contents.append((tmp_path / "array.npy").read_bytes())
    for content in contents:
        bad = tmp_path / "bad.npz"
        bad.write_bytes(content)
        with pytest.raises(UserError, match="--resume"):
            PartialPredictions(bad, {"model": "m"}).load(200, 3)
    with pytest.raises(UserError, match="cannot be read"):
        PartialPredictions(tmp_path, {}).load(200, 3)


def test_the_fingerprint_is_of_boxes_and_images_not_of_folders(people: list[Person], tmp_path: Path) -> None:
    one = fingerprint(people)
    shutil.copytree(tmp_path / "images", tmp_path / "moved")
    moved = [dataclasses.replace(p, image_path=tmp_path / "moved" / p.image_path.name) for p in people]
    assert fingerprint(moved) == one
    assert fingerprint([*moved[:-1], dataclasses.replace(moved[-1], box=(0, 0, 1, 1))]) != one
    assert fingerprint(people[:-1]) != one
    path = moved[0].image_path
    path.write_bytes(path.read_bytes() + b"\0")
    assert fingerprint(moved) != one
    path.unlink()
    with pytest.raises(UserError, match="cannot be read"):
        fingerprint(moved)
