"""Boxes of a person detector in COCO's results form: https://cocodataset.org/#format-results."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from bihrnet_edge.data.dataset import missing_files
from bihrnet_edge.data.fields import integer, number, numbers, read_json, records, require
from bihrnet_edge.data.results import PERSON
from bihrnet_edge.data.tally import Tally
from bihrnet_edge.errors import UserError

__all__ = ["Detection", "Detections", "load_detections", "usable_boxes"]

_K = TypeVar("_K")


@dataclass(frozen=True)
class Detection:
    """A box that a detector takes for a person, to be cropped like a :class:`~bihrnet_edge.data.person.Person`.

    Attributes:
        image_path: the image file; known to exist.
        image_id: id of the annotation file.
        box: ``(x, y, width, height)`` in image pixels, before padding. As detected: HRNet does not clip it.
        score: the detector's, usually 0 to 1.
    """

    image_path: Path
    image_id: int
    box: tuple[float, float, float, float]
    score: float


@dataclass(frozen=True)
class Detections:
    """The usable boxes of one file.

    Attributes:
        people: in file order.
        skipped: number of boxes left out, by reason.
        examples: the first few boxes behind each reason.
    """

    people: list[Detection]
    skipped: dict[str, int]
    examples: dict[str, tuple[str, ...]]

    def __len__(self) -> int:
        return len(self.people)


def load_detections(
    path: Path,
    images: Mapping[int, Path],
    *,
    min_score: float = 0.0,
    category_id: int = PERSON,
    skip_missing: bool = False,
) -> Detections:
    """Read a list of ``{image_id, category_id, bbox, score}``.

    Args:
        path: the JSON file.
        images: image file by id, e.g. of :class:`~bihrnet_edge.data.dataset.PoseDataset`.
        min_score: boxes with less are left out (HRNet's ``TEST.IMAGE_THRE``).
        category_id: of people.
        skip_missing: leave boxes out, and count them, whose image file is missing, as long as one box has one.

    Raises:
        UserError: the file is missing or no such list, image files are missing, or no box is left.
    """
    skipped = Tally()

    def file_of(entry: Any, where: str) -> tuple[int, Path] | None:
        image_id = integer(require(entry, "image_id", where), "image_id", where)
        return (image_id, images[image_id]) if image_id in images else None

    people = [
        Detection(image_path, image_id, box, score)
        for (image_id, image_path), box, score in usable_boxes(
            path, file_of, "image not in the annotation file", skipped, min_score=min_score, category_id=category_id
        )
    ]
    if not people:
        reasons = str(skipped) or "the file lists none"
        raise UserError(f"{path} holds no usable box ({reasons}); give a detector's boxes of these images.")

    absent = missing_files(person.image_path for person in people)
    missing = set(absent)
    kept = [person for person in people if person.image_path not in missing]
    if missing and not (skip_missing and kept):
        raise UserError(
            f"{len(missing)} of the images that {path} has boxes in are missing, the first is {absent[0]}; "
            "give the folder that holds them."
        )
    for person in people:
        if person.image_path in missing:
            skipped.add("image file missing", person.image_path.name)
    return Detections(kept, dict(skipped.counts), skipped.examples)


def usable_boxes(
    path: Path,
    place: Callable[[Any, str], _K | None],
    placeless: str,
    skipped: Tally,
    *,
    min_score: float,
    category_id: int = PERSON,
) -> Iterator[tuple[_K, tuple[float, float, float, float], float]]:
    """Where each usable box of a detections file lies, the box, and its score, in file order.

    Args:
        path: the JSON file.
        place: where a record belongs, by what it says of its image, given the record and what to call it; None where
            nobody wants it.
        placeless: what ``skipped`` calls such records.
        skipped: counts what is left out.
        min_score, category_id: as in :func:`load_detections`.

    Raises:
        UserError: the file is missing, no list of such records, or ``place`` says so.
    """
    for index, entry in enumerate(records(read_json(path, "detections file"), "the file", str(path))):
        where, name = f"{path}, detection {index}", f"detection {index}"
        key = place(entry, where)
        values, scored = require(entry, "bbox", where), require(entry, "score", where)
        if integer(require(entry, "category_id", where), "category_id", where) != category_id:
            skipped.add("not a person", name)
            continue
        try:
            x, y, width, height = numbers(values, 4, "bbox", name).tolist()
        except UserError as error:
            skipped.malformed("malformed box", error)
            continue
        try:
            score = number(scored, "score", name)
        except UserError as error:
            skipped.malformed("malformed score", error)
            continue
        if key is None:
            skipped.add(placeless, name)
        elif width <= 0 or height <= 0:
            skipped.add("box without area", name)
        elif score < min_score:
            skipped.add("score below the threshold", name)
        else:
            yield key, (x, y, width, height), score
