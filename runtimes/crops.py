"""Network inputs of many people, cut from their pictures ahead of the inference that takes them.

Reading, cropping and decoding spend their time in Pillow and NumPy, which let other threads run meanwhile. Only so
many batches are under way at once, so that memory does not grow with the number of pictures.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

from bihrnet_edge.pose.crop import Crop, read_image
from bihrnet_edge.pose.metadata import PoseMetadata
from bihrnet_edge.runtimes.base import Images
from bihrnet_edge.runtimes.estimator import crop_inputs

_T = TypeVar("_T")
_R = TypeVar("_R")
Batch = tuple[list[int], Images, list[Crop]]


class Boxed(Protocol):
    """Someone in a picture: a :class:`~bihrnet_edge.data.person.Person`, or a detector's box."""

    @property
    def image_path(self) -> Path:
        """The image file."""

    @property
    def image_id(self) -> int:
        """The annotation file's id of it."""

    @property
    def box(self) -> tuple[float, float, float, float]:
        """``(x, y, width, height)`` in image pixels."""


class _Here(Executor):
    """Runs what it is given at once, in the thread that gives it."""

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **options: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(function(*arguments, **options))
        return future


@contextmanager
def worker_pool(workers: int) -> Iterator[Executor]:
    """``workers`` threads, or the caller's own thread where that is 0; leaving it drops what has not begun."""
    if workers < 1:
        yield _Here()
        return
    pool = ThreadPoolExecutor(workers, thread_name_prefix="bihrnet-edge")
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def ahead(pool: Executor, function: Callable[[_T], _R], items: Iterable[_T], depth: int) -> Iterator[_R]:
    """``function`` of each item, in order, with at most ``depth`` results waiting that nobody took yet."""
    waiting: deque[Future[_R]] = deque()
    for item in items:
        waiting.append(pool.submit(function, item))
        if len(waiting) > depth:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def reading_order(people: Sequence[Boxed]) -> list[int]:
    """Indices of people by image, so that one batch reads an image once."""
    return sorted(range(len(people)), key=lambda index: people[index].image_path)


def cut_batch(people: Sequence[Boxed], chosen: Sequence[int], metadata: PoseMetadata) -> Batch:
    """The chosen indices, their network inputs ``(n, H, W, 3)`` and where those were cut.

    Raises:
        UserError: an image cannot be read, or a box has no area.
    """
    image, loaded = np.empty((0, 0, 3), np.uint8), None
    inputs, crops = [], []
    for index in chosen:
        person = people[index]
        if person.image_path != loaded:
            image, loaded = read_image(person.image_path), person.image_path
        pixels, crop = crop_inputs(image, person.box, metadata)
        inputs.append(pixels)
        crops += crop
    return list(chosen), np.concatenate(inputs), crops


def person_batches(people: Sequence[Boxed], metadata: PoseMetadata, batch: int) -> Iterator[Batch]:
    """All people, ordered by image, a batch of :func:`cut_batch` at a time; errors are the same."""
    order = reading_order(people)
    for start in range(0, len(order), batch):
        yield cut_batch(people, order[start : start + batch], metadata)
