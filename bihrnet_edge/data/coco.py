"""COCO's person-keypoint JSON: https://cocodataset.org/#format-data."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from bihrnet_edge.data.fields import integer, number, numbers, records, require
from bihrnet_edge.data.person import Person
from bihrnet_edge.errors import UserError
from bihrnet_edge.pose.keypoints import KEYPOINT_SETS, KeypointSet

_CUSTOM = "custom"


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


def parse_coco(document: dict[str, Any], source: Path, images: Path) -> tuple[KeypointSet, list[Person], Counter[str]]:
    """People of a COCO keypoint document whose image files lie in ``images``.

    Returns:
        The joints, the people in file order, and how many annotations were skipped, by reason.

    Raises:
        UserError: a part is missing or malformed; says which.
    """
    keypoint_set, categories = keypoint_set_of(document, source)
    joints = len(keypoint_set)
    sizes: dict[int, tuple[Path, float, float]] = {}
    for index, image in enumerate(records(require(document, "images", str(source)), "images", str(source))):
        where = f"{source}, image {index}"
        sizes[integer(require(image, "id", where), "id", where)] = (
            images / str(require(image, "file_name", where)),
            number(require(image, "width", where), "width", where),
            number(require(image, "height", where), "height", where),
        )

    people: list[Person] = []
    skipped: Counter[str] = Counter()
    for index, annotation in enumerate(records(document["annotations"], "annotations", str(source))):
        where = f"{source}, annotation {index}"
        identifier = integer(require(annotation, "id", where), "id", where)
        where = f"{source}, annotation with id {identifier}"
        if integer(annotation.get("category_id", next(iter(categories))), "category_id", where) not in categories:
            skipped["category without keypoints"] += 1
            continue
        if annotation.get("iscrowd"):
            skipped["crowd"] += 1
            continue
        if "keypoints" not in annotation:
            skipped["no labelled keypoints"] += 1
            continue
        values = numbers(annotation["keypoints"], 3 * joints, "keypoints", where).reshape(joints, 3)
        image_id = integer(require(annotation, "image_id", where), "image_id", where)
        if image_id not in sizes:
            raise UserError(f"{where} points to image {image_id}, which the file does not list; correct the file.")
        image_path, width, height = sizes[image_id]
        x, y, w, h = numbers(require(annotation, "bbox", where), 4, "bbox", where)
        area = number(annotation["area"], "area", where) if annotation.get("area") is not None else None
        box = _clip((x, y, w, h), width, height)
        visible = values[:, 2] > 0
        if not visible.any():
            skipped["no labelled keypoints"] += 1
        elif box[2] <= 0 or box[3] <= 0 or (area is not None and area <= 0):
            skipped["box without area"] += 1
        else:
            people.append(
                Person(image_path, image_id, identifier, box, values[:, :2].astype(np.float32), visible, area)
            )
    return keypoint_set, people, skipped
