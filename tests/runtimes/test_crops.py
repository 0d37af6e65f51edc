from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bihrnet_edge.data.person import Person
from bihrnet_edge.errors import UserError
from bihrnet_edge.pose.keypoints import KeypointSet
from bihrnet_edge.pose.metadata import PoseMetadata
from bihrnet_edge.runtimes.crops import ahead, cut_batch, person_batches, reading_order, worker_pool

METADATA = PoseMetadata("m", 32, 24, KeypointSet("one", ("nose",)))


@pytest.fixture
def people(tmp_path: Path) -> list[Person]:
    """Seven people on three pictures, not in the pictures' order."""
    rng = np.random.default_rng(0)
    for name in "abc":
        Image.fromarray(rng.integers(0, 255, (60, 80, 3), np.uint8)).save(tmp_path / f"{name}.png")
    labels = np.zeros((1, 2), np.float32), np.ones(1, bool)
    return [Person(tmp_path / f"{name}.png", i, i, (5.0 + i, 4, 30, 40), *labels) for i, name in enumerate("bacbcab")]


def test_batches_cover_everyone_by_image(people: list[Person]) -> None:
    batches = list(person_batches(people, METADATA, 3))
    assert (
        [chosen for chosen, _, _ in batches]
        == [[1, 5, 0], [3, 6, 2], [4]]
        == [reading_order(people)[i : i + 3] for i in (0, 3, 6)]
    )
    for chosen, inputs, crops in batches:
        assert inputs.shape == (len(chosen), 32, 24, 3)
        for row, index in enumerate(chosen):
            _, alone, crop = cut_batch(people, [index], METADATA)
            np.testing.assert_array_equal(inputs[row], alone[0])
            assert crops[row] == crop[0]


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_results_come_in_order_and_no_more_than_asked_for_are_made_ahead(workers: int) -> None:
    lock, started, taken = threading.Lock(), 0, 0

    def work(item: int) -> int:
        nonlocal started
        with lock:
            started += 1
            assert started - taken <= 2 * workers + 1
        return item * item

    with worker_pool(workers) as pool:
        for index, value in enumerate(ahead(pool, work, range(50), 2 * workers)):
            assert value == index * index
            with lock:
                taken += 1
    assert started == 50


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_in_a_worker_is_raised_and_ends_the_threads(workers: int, people: list[Person]) -> None:
    people[3].image_path.unlink()
    before = threading.active_count()
    with pytest.raises(UserError, match=r"b\.png does not exist"), worker_pool(workers) as pool:
        list(ahead(pool, lambda index: cut_batch(people, [index], METADATA), range(7), 2))
    assert threading.active_count() == before
