"""COCO's person-keypoint JSON: https://cocodataset.org/#format-data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bihrnet_edge.data.fields import integer, number, numbers, numbers_or_error, records, require
from bihrnet_edge.data.parsed import Parsed
from bihrnet_edge.data.person import Person
from bihrnet_edge.data.tally import Tally
from bihrnet_edge.data.truth import TruthBuilder
from bihrnet_edge.errors import UserError
from bihrnet_edge.pose.keypoints import KEYPOINT_SETS, KeypointSet

_CUSTOM = "custom"
_MALFORMED = ("malformed keypoints", "missing or malformed box", "malformed area")


def keypoint_set_of(document: dict[str, Any], source: Path) -> tuple[KeypointSet, set[int]]:
    """The joints that the file's categories name, and the ids of the categories which have them.

    A known order of joints gets its known name (``coco``, ``mpii``, ``lsp``) and skeleton.

    Raises:
        UserError: no category names joints, or two name different ones.
    """
    found: dict[int, tuple[tuple[str, ...], Any]] = {}
    for index, category in enumerate(records(require(document, "categories", str(source)), "categories", str(source))):
        where = f"{source}, category {index}"
        if isinstance(category, dict) and category.get("keypoints"):
            names = tuple(str(name) for name in records(category["keypoints"], "keypoints", where))
            found[integer(require(category, "id", where), "id", where)] = names, category.get("skeleton") or []
    if not found:
        raise UserError(
            f"{source}: no category names keypoints; use a person_keypoints file, or add the joints' names "
            "as 'keypoints' to its category."
        )
    if len({names for names, _ in found.values()}) > 1:
        raise UserError(f"{source}: its categories name different keypoints; split the file by category.")
    names, skeleton = next(iter(found.values()))
    for known in KEYPOINT_SETS.values():
        if known.keypoints == names:
            return known, set(found)
    limbs = [numbers(limb, 2, "a limb", f"{source}, skeleton") for limb in records(skeleton, "skeleton", str(source))]
    return KeypointSet(_CUSTOM, names, tuple((int(a) - 1, int(b) - 1) for a, b in limbs)), set(found)


def _clip(box: tuple[float, float, float, float], width: float, height: float) -> tuple[float, float, float, float]:
    """The box inside the image, by the formula of HRNet's COCO reader so that crops equal HRNet's."""
    x1, y1 = max(0.0, box[0]), max(0.0, box[1])
    x2 = min(width - 1, x1 + max(0.0, box[2] - 1))
    y2 = min(height - 1, y1 + max(0.0, box[3] - 1))
    return x1, y1, x2 - x1, y2 - y1


@dataclass(frozen=True)
class _Image:
    path: Path
    width: float
    height: float

    def leaves(self, points: NDArray[np.float64]) -> bool:
        """Whether one of the points ``(n, 2)`` lies outside; pixel centres are whole numbers."""
        return bool(((points < -0.5) | (points > np.array([self.width, self.height]) - 0.5)).any())


def _images(document: dict[str, Any], source: Path, images: Path, notes: Tally) -> dict[int, _Image]:
    found: dict[int, _Image] = {}
    for index, image in enumerate(records(require(document, "images", str(source)), "images", str(source))):
        where = f"{source}, image {index}"
        identifier = integer(require(image, "id", where), "id", where)
        entry = _Image(
            images / str(require(image, "file_name", where)),
            number(require(image, "width", where), "width", where),
            number(require(image, "height", where), "height", where),
        )
        if identifier in found:
            notes.add("duplicate image id, the first counts", f"image {identifier}")
        else:
            found[identifier] = entry
    return found


def parse_coco(document: dict[str, Any], source: Path, images: Path) -> Parsed:
    """People of a COCO keypoint document whose image files lie in ``images``.

    One person's malformed joints, box or area cost that person only, and are counted.

    Raises:
        UserError: the document's structure is broken; says where.
    """
    keypoint_set, categories = keypoint_set_of(document, source)
    joints = len(keypoint_set)
    skipped, notes = Tally(), Tally()
    listed = _images(document, source, images, notes)
    truth = TruthBuilder(joints)
    people: list[Person] = []
    seen: set[int] = set()
    for index, annotation in enumerate(records(document["annotations"], "annotations", str(source))):
        where = f"{source}, annotation {index}"
        identifier = integer(require(annotation, "id", where), "id", where)
        where, name = f"{source}, annotation with id {identifier}", f"annotation {identifier}"
        if integer(annotation.get("category_id", next(iter(categories))), "category_id", where) not in categories:
            skipped.add("category without keypoints", name)
            continue
        image_id = integer(require(annotation, "image_id", where), "image_id", where)
        if image_id not in listed:
            raise UserError(f"{where} points to image {image_id}, which the file does not list; correct the file.")
        if identifier in seen:
            skipped.add("duplicate annotation id", name)
            continue
        seen.add(identifier)

        image, crowd = listed[image_id], bool(annotation.get("iscrowd"))
        values = numbers_or_error(annotation.get("keypoints", [0] * 3 * joints), 3 * joints, "keypoints", name)
        box = numbers_or_error(annotation.get("bbox", []), 4, "bbox", name)
        area = None if annotation.get("area") is None else numbers_or_error(annotation["area"], 1, "area", name)
        points = None if isinstance(values, UserError) else values.reshape(joints, 3)
        bounds = None if isinstance(box, UserError) else box
        size: float | None
        if isinstance(area, UserError):  # what is ignored needs some area, too
            size = 0.0 if bounds is None else float(bounds[2] * bounds[3])
        else:
            size = None if area is None else float(area[0])
        wrong = {
            reason: found
            for reason, found in zip(_MALFORMED, (values, box, area), strict=True)
            if isinstance(found, UserError)
        }
        truth.add(image_id, points, bounds, size, crowd=crowd, malformed=bool(wrong))
        if crowd:
            skipped.add("crowd", name)
            continue
        if points is None or bounds is None or wrong:
            skipped.malformed(*next(iter(wrong.items())))
            continue
        visible = points[:, 2] > 0
        x, y, w, h = bounds.tolist()
        clipped = _clip((x, y, w, h), image.width, image.height)
        if not visible.any():
            skipped.add("no labelled keypoints", name)
        elif clipped[2] <= 0 or clipped[3] <= 0 or (size is not None and size <= 0):
            skipped.add("box without area", name)
        else:
            if image.leaves(points[visible, :2]):
                notes.add("people with a joint outside the image", name)
            people.append(
                Person(image.path, image_id, identifier, clipped, points[:, :2].astype(np.float32), visible, size)
            )
    paths = {identifier: image.path for identifier, image in listed.items()}
    return Parsed(keypoint_set, people, skipped, notes, paths, truth.build(listed))
