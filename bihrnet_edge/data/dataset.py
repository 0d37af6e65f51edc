"""Annotated people from a COCO or MPII file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from bihrnet_edge.data.coco import parse_coco
from bihrnet_edge.data.mpii import parse_mpii
from bihrnet_edge.data.person import Person
from bihrnet_edge.errors import UserError
from bihrnet_edge.pose.keypoints import KeypointSet

__all__ = ["Person", "PoseDataset", "load_annotations"]


@dataclass(frozen=True)
class PoseDataset:
    """The usable people of one annotation file.

    Attributes:
        name: the annotation file's name without its suffix.
        keypoints: the joints, in the order of every ``Person.keypoints``.
        people: in file order.
        skipped: number of annotations left out, by reason.
    """

    name: str
    keypoints: KeypointSet
    people: list[Person]
    skipped: dict[str, int]

    def __len__(self) -> int:
        return len(self.people)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that the file system cannot hold, a folder that may not be entered
        return False


def load_annotations(annotations: Path, images: Path) -> PoseDataset:
    """Read a COCO keypoint file or an MPII file of HRNet's tools; which one is seen from its structure.

    Args:
        annotations: the JSON file.
        images: the folder that its image names are relative to.

    Raises:
        UserError: the file is missing, malformed or of another format, an image file is missing, or no
            usable person is left.
    """
    try:
        document = json.loads(annotations.read_bytes())
    except OSError as error:
        raise UserError(f"annotation file {annotations} cannot be read ({error.strerror}); check the path.") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"annotation file {annotations} is not JSON ({error}); it may be truncated.") from error
    try:
        found = images.is_dir()
    except OSError as error:
        raise UserError(f"image folder {images} cannot be read ({error.strerror}); check the path.") from error
    if not found:
        raise UserError(f"image folder {images} does not exist; check the path.")

    if isinstance(document, list):
        keypoints, people, skipped = parse_mpii(document, annotations, images)
    elif isinstance(document, dict) and "annotations" in document:
        keypoints, people, skipped = parse_coco(document, annotations, images)
    else:
        raise UserError(
            f"{annotations} has no 'annotations'; give a COCO keypoint file, or MPII's list as HRNet's tools write it."
        )
    if not people:
        reasons = ", ".join(f"{count} {reason}" for reason, count in skipped.items()) or "the file lists none"
        raise UserError(f"{annotations} holds no usable person ({reasons}); give a file with labelled people.")

    missing = [path for path in dict.fromkeys(person.image_path for person in people) if not _is_file(path)]
    if missing:
        raise UserError(
            f"{len(missing)} of the images that {annotations} names are missing, the first is {missing[0]}; "
            "give the folder that holds them."
        )
    return PoseDataset(annotations.stem, keypoints, people, dict(skipped))
