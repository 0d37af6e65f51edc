"""MPII as released: the MATLAB file ``mpii_human_pose_v1_u12_1.mat`` (http://human-pose.mpi-inf.mpg.de/#download)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bihrnet_edge.data.fields import number, numbers
from bihrnet_edge.data.matfile import MatArray, MatError, read_variable
from bihrnet_edge.data.mpii import HEAD_SCALE, PeopleBuilder
from bihrnet_edge.data.parsed import Parsed
from bihrnet_edge.errors import UserError
from bihrnet_edge.pose.keypoints import MPII

_MAGIC = b"MATLAB"  # of the text that heads the file

Struct = Mapping[str, MatArray]


def is_mat(path: Path, head: bytes) -> bool:
    """Whether a file that begins with ``head`` is one of MATLAB's."""
    return head.startswith(_MAGIC) or path.suffix.lower() == ".mat"


def parse_mpii_mat(source: Path, images: Path) -> Parsed:
    """People of MPII's release whose image files lie in ``images``; ids count the annotations from 1.

    Boxes, pixels and head sizes are those of :func:`~bihrnet_edge.data.mpii.parse_mpii`. The joints of the test
    images are not published, so those images' people are counted and left out. MPII scores single people where
    they stand apart; who does not (by ``single_person``) is kept and noted.

    Raises:
        UserError: the file is damaged or of another kind; says which.
    """
    try:
        return _parse(source, images)
    except MemoryError as error:
        raise UserError(f"{source} asks for more memory than there is; it may be damaged.") from error
    except MatError as error:
        raise UserError(f"{source} is not a whole MATLAB file ({error}); download it again.") from error


def _parse(source: Path, images: Path) -> Parsed:
    variable = read_variable(source, "RELEASE")
    if variable is None or not variable.is_struct or len(variable) != 1:
        raise UserError(f"{source} has no struct RELEASE; give MPII's mpii_human_pose_v1_u12_1.mat.")
    release = _struct(variable)
    train = _numbers(release, "img_train")
    count = len(release["annolist"]) if "annolist" in release else 0
    if not count or len(train) != count:
        raise UserError(
            f"{source}: its RELEASE lists {count} images and {len(train)} marks of img_train; "
            "download the release again."
        )
    apart = _places(release, count)
    builder = PeopleBuilder(images)
    identifier = 0
    for index, entry in enumerate(release["annolist"].structs()):
        image = _text(_struct(entry.get("image")), "name")
        if not image:
            raise UserError(f"{source}: image {index + 1} of its annolist has no name; download the release again.")
        people = entry["annorect"].structs() if "annorect" in entry else iter(())
        for place, person in enumerate(people, start=1):
            identifier += 1
            name = f"{image}, person {place}"
            if train[index] != 1:
                builder.skipped.add("test image without published joints", name)
                continue
            before = len(builder.people)
            _add(builder, identifier, image, person, name)
            if len(builder.people) > before and apart is not None and place not in apart[index]:
                builder.notes.add("people that do not stand apart", name)
    return builder.build()


def _struct(value: MatArray | None) -> Struct:
    """The fields of a single struct; none where it is something else, such as the empty array."""
    return next(value.structs(), {}) if value is not None else {}


def _numbers(fields: Struct, name: str) -> list[float]:
    return fields[name].numbers() if name in fields else []


def _text(fields: Struct, name: str) -> str:
    return fields[name].text() if name in fields else ""


def _places(release: Struct, count: int) -> list[list[float]] | None:
    """For each image the 1-based places of the people that stand apart; None where the file does not say."""
    if "single_person" not in release or len(release["single_person"]) != count:
        return None
    places = [cell.numbers() for cell in release["single_person"].cells()]
    return places if len(places) == count else None


def _is_empty(fields: Struct, name: str) -> bool:
    return name not in fields or not len(fields[name])


def _add(builder: PeopleBuilder, identifier: int, image: str, person: Struct, name: str) -> None:
    annopoints = _struct(person.get("annopoints"))
    points = list(annopoints["point"].structs()) if "point" in annopoints else []
    position = _struct(person.get("objpos"))
    if not points:
        builder.skipped.add("no labelled keypoints", name)
        return
    if _is_empty(person, "scale") or _is_empty(position, "x") or _is_empty(position, "y"):
        builder.skipped.add("no centre or scale", name)
        return
    try:
        joints, labelled = _joints(points, name)
    except UserError as error:
        builder.skipped.malformed("malformed keypoints", error)
        return
    center = [_numbers(position, "x"), _numbers(position, "y")]
    builder.add(identifier, image, center, _numbers(person, "scale"), joints, labelled, _head_size(person), name)


def _joints(points: Sequence[Struct], name: str) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Joints ``(16, 2)`` in MPII's order and which are labelled.

    ``is_visible`` tells occluded joints from visible ones and is empty for the head's; all count, as in PCKh.

    Raises:
        UserError: an id or a coordinate is malformed, or a joint comes twice.
    """
    joints, labelled = np.zeros((len(MPII), 2)), np.zeros(len(MPII), bool)
    fields = [_numbers(point, key) for point in points for key in ("id", "x", "y")]
    if any(len(value) != 1 for value in fields):
        raise UserError(f"{name}: a joint has no id, x or y; correct the file.")
    # Checked together: one by one takes longer than all the rest.
    for which, x, y in numbers(fields, len(fields), "a joint", name).reshape(-1, 3).tolist():
        if which not in range(len(MPII)):
            raise UserError(f"{name}: joint {which:g} is none of MPII's 16; correct the file.")
        if labelled[int(which)]:
            raise UserError(f"{name}: joint {which:g} comes twice; correct the file.")
        joints[int(which)], labelled[int(which)] = (x, y), True
    return joints, labelled


def _head_size(person: Struct) -> float | None:
    """Size of the head box ``x1, y1, x2, y2`` in pixels; None where there is none, NaN where it is malformed."""
    corners = ("x1", "y1", "x2", "y2")
    if any(_is_empty(person, key) for key in corners):
        return None
    try:
        x1, y1, x2, y2 = (number(_numbers(person, key), key, "head box") for key in corners)
    except UserError:
        return math.nan
    return HEAD_SCALE * math.hypot(x2 - x1, y2 - y1)
