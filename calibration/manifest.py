"""The manifest of a held-out subset: which people of which annotation file, and which bytes their images have."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bihrnet_edge.errors import UserError
from bihrnet_edge.files import make_folder, write_text

#: Of the file's format.
VERSION = 1
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class SubsetPerson:
    """One person of a subset.

    Attributes:
        annotation_id: in the annotation file.
        image: the image file's name, relative to the image folder.
        image_sha256: hex digest of the file's bytes.
        stratum: what the person was drawn for, e.g. ``size 1/3, joints 3/3``.
    """

    annotation_id: int
    image: str
    image_sha256: str
    stratum: str


@dataclass(frozen=True)
class SubsetManifest:
    """A held-out subset.

    Attributes:
        version: of the format.
        seed: that it was drawn with.
        annotations: name of the annotation file.
        annotations_sha256: hex digest of its bytes.
        people: in the annotation file's order.
    """

    version: int
    seed: int
    annotations: str
    annotations_sha256: str
    people: tuple[SubsetPerson, ...]

    def __len__(self) -> int:
        return len(self.people)

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "people": [asdict(person) for person in self.people]}


def write_manifest(path: Path, manifest: SubsetManifest) -> None:
    """Write a manifest as JSON, whole or not at all.

    Raises:
        UserError: the file cannot be written.
    """
    make_folder(path.resolve().parent)
    write_text(path, json.dumps(manifest.to_dict(), indent=1, sort_keys=True) + "\n")


def read_manifest(path: Path) -> SubsetManifest:
    """Inverse of :func:`write_manifest`.

    Raises:
        UserError: the file is missing, malformed, newer than this version or names nobody; says where.
    """
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise UserError(f"subset manifest {path} cannot be read ({error.strerror}); check the path.") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"subset manifest {path} is not JSON ({error}); it may be truncated.") from error
    where = f"subset manifest {path}"
    version = _integer(document, "version", where)
    if version != VERSION:
        raise UserError(f"{where} has version {version}, this bihrnet-edge reads {VERSION}; choose the subset again.")
    entries = _field(document, "people", where)
    if not isinstance(entries, list) or not entries:
        raise UserError(f"{where}: 'people' is not a list of people; choose the subset again.")
    people = tuple(_person(entry, f"{where}, person {index}") for index, entry in enumerate(entries))
    seen: set[int] = set()
    for index, person in enumerate(people):
        if person.annotation_id in seen:
            raise UserError(
                f"{where}, person {index}: annotation {person.annotation_id} is named twice; choose the subset again."
            )
        seen.add(person.annotation_id)
    return SubsetManifest(
        version,
        _integer(document, "seed", where),
        _text(document, "annotations", where),
        _digest(document, "annotations_sha256", where),
        people,
    )


def _person(entry: Any, where: str) -> SubsetPerson:
    return SubsetPerson(
        _integer(entry, "annotation_id", where),
        _text(entry, "image", where),
        _digest(entry, "image_sha256", where),
        _text(entry, "stratum", where),
    )


def _field(entry: Any, key: str, where: str) -> Any:
    if not isinstance(entry, dict):
        raise UserError(f"{where} is not a JSON object; choose the subset again.")
    if key not in entry:
        raise UserError(f"{where} has no {key!r}; choose the subset again.")
    return entry[key]


def _integer(entry: Any, key: str, where: str) -> int:
    value = _field(entry, key, where)
    if not isinstance(value, int) or isinstance(value, bool):
        raise UserError(f"{where}: {key!r} is not a whole number; choose the subset again.")
    return value


def _text(entry: Any, key: str, where: str) -> str:
    value = _field(entry, key, where)
    if not isinstance(value, str) or not value:
        raise UserError(f"{where}: {key!r} is not a text; choose the subset again.")
    return value


def _digest(entry: Any, key: str, where: str) -> str:
    value = _text(entry, key, where)
    if not _SHA256.fullmatch(value):
        raise UserError(f"{where}: {key!r} is not a SHA-256 in hexadecimal; choose the subset again.")
    return value
