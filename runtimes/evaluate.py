"""Accuracy of a runner on an annotated data set."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bihrnet_edge.data.dataset import PoseDataset
from bihrnet_edge.data.person import Person
from bihrnet_edge.errors import UserError
from bihrnet_edge.metrics.pck import metric_for
from bihrnet_edge.pose.crop import Crop, read_image
from bihrnet_edge.pose.keypoints import KeypointSet
from bihrnet_edge.pose.metadata import PoseMetadata
from bihrnet_edge.runtimes.base import Images, Runner
from bihrnet_edge.runtimes.estimator import crop_inputs, poses

_NO_REFERENCE = "no reference length"


@dataclass(frozen=True)
class EvalResult:
    """Outcome of :func:`evaluate`.

    Attributes:
        metric: e.g. ``PCK@0.2``.
        value: per cent.
        per_joint: per cent by joint name; NaN where a joint was never labelled.
        people: people that the network was run on.
        skipped: what does not count towards ``value``, by reason: annotations that the data set left out
            and people without a reference length.
        predictions: float32 ``(people, K, 3)``, x, y in image pixels and score, in the data set's order.
        seconds: wall-clock time of it all.
    """

    metric: str
    value: float
    per_joint: dict[str, float]
    people: int
    skipped: dict[str, int]
    predictions: NDArray[np.float32]
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """JSON-serialisable, without the predictions; NaN becomes None."""

        def plain(value: float) -> float | None:
            return None if np.isnan(value) else value

        return {
            "metric": self.metric,
            "value": plain(self.value),
            "per_joint": {name: plain(value) for name, value in self.per_joint.items()},
            "people": self.people,
            "skipped": self.skipped,
            "seconds": self.seconds,
        }


def check_same_joints(model: KeypointSet, dataset: KeypointSet) -> None:
    """A :class:`UserError` that names the first difference, unless both have the same joints in the same order."""
    if len(model) != len(dataset):
        raise UserError(
            f"the model predicts {len(model)} joints ({model.name}), the data set labels {len(dataset)} "
            f"({dataset.name}); evaluate on data with the model's joints."
        )
    for index, (ours, theirs) in enumerate(zip(model.keypoints, dataset.keypoints, strict=True)):
        if ours != theirs:
            raise UserError(
                f"joint {index} is {ours!r} in the model ({model.name}) and {theirs!r} in the data set "
                f"({dataset.name}); evaluate on data with the model's joints."
            )


def person_batches(
    people: Sequence[Person], metadata: PoseMetadata, batch: int
) -> Iterator[tuple[list[int], Images, list[Crop]]]:
    """Indices into ``people``, their network inputs ``(n, H, W, 3)`` and where those were cut, a batch at a time.

    Ordered by image, so that each is read once.

    Raises:
        UserError: an image cannot be read.
    """
    order = sorted(range(len(people)), key=lambda index: people[index].image_path)
    image, loaded = np.empty((0, 0, 3), np.uint8), None
    for start in range(0, len(order), batch):
        chosen = order[start : start + batch]
        inputs, crops = [], []
        for index in chosen:
            person = people[index]
            if person.image_path != loaded:
                image, loaded = read_image(person.image_path), person.image_path
            pixels, crop = crop_inputs(image, person.box, metadata)
            inputs.append(pixels)
            crops += crop
        yield chosen, np.concatenate(inputs), crops


def evaluate(
    runner: Runner,
    dataset: PoseDataset,
    limit: int | None = None,
    batch: int = 8,
    progress: Callable[[int, int], None] | None = None,
) -> EvalResult:
    """Run a network on the annotated boxes of a data set and score its joints.

    Args:
        runner: the network.
        dataset: with the network's joints.
        limit: use only the first so many people.
        batch: people per call of the runner.
        progress: called with the people done and the people in all.

    Raises:
        UserError: the joints differ, an image cannot be read, or an argument is out of range.
    """
    check_same_joints(runner.metadata.keypoints, dataset.keypoints)
    if (limit is not None and limit < 1) or batch < 1:
        raise UserError(f"evaluate: limit {limit} and batch {batch} must be 1 or more.")
    started = time.perf_counter()
    people = dataset.people[:limit]
    predictions = np.empty((len(people), len(dataset.keypoints), 3), np.float32)
    done = 0
    for chosen, images, crops in person_batches(people, runner.metadata, batch):
        predictions[chosen] = poses(runner.run(images), crops)
        done += len(chosen)
        if progress is not None:
            progress(done, len(people))

    metric = metric_for(dataset.keypoints)
    result = metric(predictions[..., :2], people)
    skipped = Counter(dataset.skipped)
    if result.skipped_people:
        skipped[_NO_REFERENCE] += result.skipped_people
    return EvalResult(
        metric.name,
        result.mean,
        dict(zip(dataset.keypoints.keypoints, result.per_joint.tolist(), strict=True)),
        len(people),
        dict(skipped),
        predictions,
        time.perf_counter() - started,
    )
