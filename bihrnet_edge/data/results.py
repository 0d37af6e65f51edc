"""COCO's results form for keypoints: https://cocodataset.org/#format-results."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bihrnet_edge.data.fields import integer, number, numbers, read_json, records, require
from bihrnet_edge.data.tally import Tally
from bihrnet_edge.errors import UserError
from bihrnet_edge.files import atomic_path

#: COCO's id of the category person.
PERSON = 1
_PIECE = 1000


@dataclass(frozen=True, eq=False)
class KeypointResults:
    """Predicted people of any number of images.

    Attributes:
        image_ids: int64 ``(N,)``.
        keypoints: float ``(N, K, 3)``, x and y in image pixels and the joint's score.
        scores: float64 ``(N,)``, by which people are ranked; higher is surer.
    """

    image_ids: NDArray[np.int64]
    keypoints: NDArray[np.floating[Any]]
    scores: NDArray[np.float64]

    def __post_init__(self) -> None:
        count = len(self.image_ids)
        if self.keypoints.ndim != 3 or self.keypoints.shape[2] != 3 or len(self.keypoints) != count:
            raise ValueError(f"keypoints have shape {self.keypoints.shape}, not ({count}, K, 3)")
        if self.scores.shape != (count,):
            raise ValueError(f"scores have shape {self.scores.shape}, not ({count},)")

    def __len__(self) -> int:
        return len(self.image_ids)

    def take(self, rows: NDArray[np.integer[Any]] | NDArray[np.bool_]) -> KeypointResults:
        """Some of the people, by index or by mask."""
        return KeypointResults(self.image_ids[rows], self.keypoints[rows], self.scores[rows])


def _records(results: KeypointResults, category_id: int) -> Iterator[dict[str, Any]]:
    for start in range(0, len(results), _PIECE):
        part = results.take(np.arange(start, min(start + _PIECE, len(results))))
        points = np.asarray(part.keypoints, np.float64)
        # JSON has no NaN. (0, 0) with score 0 is what COCO's own files hold for a joint that is not there.
        points = np.where(np.isfinite(points).all(axis=2, keepdims=True), points, 0.0)
        flat = points.reshape(len(part), -1).tolist()
        for image_id, values, score in zip(part.image_ids.tolist(), flat, part.scores.tolist(), strict=True):
            yield {"image_id": image_id, "category_id": category_id, "keypoints": values, "score": score}


def write_results(path: Path, results: KeypointResults, category_id: int = PERSON) -> None:
    """Write predictions as a JSON list of ``{image_id, category_id, keypoints, score}``, one a line.

    Joints with NaN or infinity become ``0, 0, 0``. Coordinates are written to the last bit.

    Raises:
        UserError: the file cannot be written.
        ValueError: a score is not finite.
    """
    if not np.isfinite(results.scores).all():
        raise ValueError("a score is not finite")
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write("[")
        for index, record in enumerate(_records(results, category_id)):
            file.write((",\n" if index else "\n") + json.dumps(record, separators=(",", ":"), allow_nan=False))
        file.write("\n]\n")


def read_results(path: Path, joints: int, category_id: int = PERSON) -> tuple[KeypointResults, Tally]:
    """Read predictions of ``joints`` joints in COCO's results form.

    Returns:
        The predictions in file order, and what was left out: other categories, malformed joints or scores.

    Raises:
        UserError: the file is missing, not JSON or not such a list; says which.
    """
    document = read_json(path, "results file")
    image_ids: list[int] = []
    keypoints: list[NDArray[np.float64]] = []
    scores: list[float] = []
    skipped = Tally()
    for index, entry in enumerate(records(document, "the file", str(path))):
        where, name = f"{path}, prediction {index}", f"prediction {index}"
        image_id = integer(require(entry, "image_id", where), "image_id", where)
        values, score = require(entry, "keypoints", where), require(entry, "score", where)
        if integer(require(entry, "category_id", where), "category_id", where) != category_id:
            skipped.add("wrong category", name)
            continue
        try:
            points = numbers(values, 3 * joints, "keypoints", name).reshape(joints, 3)
        except UserError as error:
            skipped.malformed("malformed keypoints", error)
            continue
        try:
            scores.append(number(score, "score", name))
        except UserError as error:
            skipped.malformed("malformed score", error)
            continue
        image_ids.append(image_id)
        keypoints.append(points.astype(np.float32))
    stacked = np.array(keypoints, np.float32).reshape(-1, joints, 3)
    return KeypointResults(np.array(image_ids, np.int64), stacked, np.array(scores, np.float64)), skipped
