"""Worker processes that read ahead, by torch's DataLoader: results in order, failures as sentences."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any, TypeVar

import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from bihrnet_edge.errors import UserError, first_line

T = TypeVar("T")


class _Reader(Dataset[Any]):
    """Answers whole requests; a failure comes back as a value, because torch would wrap a traceback into it."""

    def __init__(self, read: Callable[[NDArray[Any]], Any]) -> None:
        self.read = read

    def __getitem__(self, request: NDArray[Any]) -> Any:
        try:
            return self.read(request)
        except UserError as error:
            return error


def _as_it_is(result: T) -> T:
    return result


def stream(
    read: Callable[[NDArray[Any]], T], requests: Iterable[NDArray[Any]], *, workers: int, pin_memory: bool = False
) -> Generator[T, None, None]:
    """``read(request)`` for each request, in order.

    The workers start with the first result and have ended when the iterator is exhausted, closed or has raised.

    Args:
        read: runs in the workers; without any, here.
        requests: arrays, which are what reaches a worker.
        workers: processes that work ahead, no more than there are cores for them.
        pin_memory: leave tensors where a CUDA device fetches them without waiting.

    Raises:
        UserError: ``read`` raised it.
    """
    workers = min(workers, len(os.sched_getaffinity(0)))
    loader = DataLoader(
        _Reader(read),
        batch_size=None,
        sampler=requests,
        num_workers=workers,
        collate_fn=_as_it_is,
        pin_memory=pin_memory,
        generator=torch.Generator(),  # the seed that torch draws for its workers comes from no stream of ours
        # Forked workers share what the run has read of the annotations, and start at once.
        multiprocessing_context="fork" if workers else None,
    )
    # The loop alone holds DataLoader's iterator, so that leaving it, however that happens, ends the workers.
    for result in loader:
        if isinstance(result, UserError):
            raise result
        yield result


@contextlib.contextmanager
def worker_losses() -> Iterator[None]:
    """A sentence where a worker was killed, which torch raises in the main process wherever that happens to be."""
    try:
        yield
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise UserError(
            f"a process that reads images ahead has ended ({first_line(error).rstrip('.')}); give the recipe fewer "
            "data workers, or the machine more memory, shared memory (/dev/shm) included."
        ) from error
