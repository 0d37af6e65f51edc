"""The joints of many people, with everything around the network at work while the network is."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial as bind

import numpy as np
from numpy.typing import NDArray

from bihrnet_edge.errors import UserError
from bihrnet_edge.pose.heatmaps import DECODINGS, Decoding
from bihrnet_edge.runtimes.base import Runner
from bihrnet_edge.runtimes.crops import Boxed, ahead, cut_batch, reading_order, worker_pool
from bihrnet_edge.runtimes.estimator import poses, run_heatmaps
from bihrnet_edge.runtimes.partial import PartialPredictions


def predict_people(
    runner: Runner,
    people: Sequence[Boxed],
    *,
    flip_test: bool = False,
    decoding: Decoding = "quarter",
    batch: int = 8,
    workers: int = 0,
    partial: PartialPredictions | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> NDArray[np.float32]:
    """Joints of people in image files, float32 ``(P, K, 3)``: x, y in image pixels and score, in the order given.

    Memory holds the predictions and a few batches of inputs, whatever the number of images.

    Args:
        runner: the network; runs in this thread.
        people: boxes in image files.
        flip_test, decoding: as in :class:`~bihrnet_edge.runtimes.estimator.PoseEstimator`.
        batch: people per call of the runner.
        workers: threads that read and crop ahead and decode behind; 0 does it all here, one after another.
        partial: takes up what an earlier run predicted, and keeps what this one does, also when it is stopped.
        progress: called with the people done and the people in all.

    Raises:
        UserError: an image cannot be read, or an argument is out of range.
    """
    if batch < 1 or workers < 0:
        raise UserError(f"batch {batch} must be 1 or more, workers {workers} 0 or more.")
    if decoding not in DECODINGS:
        raise UserError(f"there is no decoding {decoding!r}; choose one of {', '.join(DECODINGS)}.")
    order = reading_order(people)
    shape = (len(people), len(runner.metadata.keypoints), 3)
    made = np.empty(shape, np.float32)  # in reading order, so that what is done comes first
    done = 0
    if partial is not None:
        earlier = partial.load(*shape[:2])
        done = len(earlier)
        made[:done] = earlier
        if progress is not None and done:
            progress(done, len(people))

    decoded: deque[Future[NDArray[np.float32]]] = deque()
    chunks = [order[start : start + batch] for start in range(done, len(order), batch)]
    with worker_pool(workers) as pool, contextlib.ExitStack() as last:
        if partial is not None:
            last.callback(lambda: partial.save(made[:done]))

        def take(most: int) -> int:
            """Store decoded poses until at most so many batches wait; the people done."""
            stored = done
            while len(decoded) > most:
                rows = decoded.popleft().result()
                made[stored : stored + len(rows)] = rows
                stored += len(rows)
                if progress is not None:
                    progress(stored, len(people))
            return stored

        for _, inputs, crops in ahead(pool, bind(cut_batch, people, metadata=runner.metadata), chunks, 2 * workers):
            heatmaps = run_heatmaps(runner, inputs, flip_test)
            decoded.append(pool.submit(poses, heatmaps, crops, decoding))
            done = take(workers)
            if partial is not None and partial.due():
                partial.save(made[:done])
        done = take(0)
    predictions = np.empty_like(made)
    predictions[order] = made
    return predictions
