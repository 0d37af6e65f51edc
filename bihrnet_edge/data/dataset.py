"""Annotated people from a COCO or MPII file."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from bihrnet_edge.data.coco import parse_coco
from bihrnet_edge.data.fields import read_json
from bihrnet_edge.data.mpii import parse_mpii
from bihrnet_edge.data.mpii_mat import is_mat, parse_mpii_mat
from bihrnet_edge.data.parsed import Parsed
from bihrnet_edge.data.person import Person
from bihrnet_edge.data.truth import CocoTruth
from bihrnet_edge.errors import UserError
from bihrnet_edge.pose.keypoints import KeypointSet

__all__ = ["Person", "PoseDataset", "load_annotations"]

_NO_IMAGE = "image file missing"


@dataclass(frozen=True)
class PoseDataset:
    """The usable people of one annotation file.

    Attributes:
        name: the annotation file's name without its suffix.
        keypoints: the joints, in the order of every ``Person.keypoints``.
        people: in file order.
        skipped: number of annotations left out, by reason.
        notes: number of annotations that are odd but were kept, by what is odd.
        examples: the first few annotations behind each reason of ``skipped`` and ``notes``.
        images: image file by id, as the annotations list them, without those known to be missing.
        truth: what COCO's protocol scores against, in those images; None for MPII.
    """

    name: str
    keypoints: KeypointSet
    people: list[Person]
    skipped: dict[str, int]
    notes: dict[str, int] = field(default_factory=dict)
    examples: dict[str, tuple[str, ...]] = field(default_factory=dict)
    images: dict[int, Path] = field(default_factory=dict)
    truth: CocoTruth | None = None

    def __len__(self) -> int:
        return len(self.people)


def missing_files(paths: Iterable[Path]) -> list[Path]:
    """Those of the paths that are no file, each once."""

    def is_file(path: Path) -> bool:
        try:
            return path.is_file()
        except OSError:  # a name that the file system cannot hold, a folder that may not be entered
            return False

    return [path for path in dict.fromkeys(paths) if not is_file(path)]


def check_folder(images: Path) -> None:
    """A :class:`UserError` unless the image folder exists."""
    try:
        found = images.is_dir()
    except OSError as error:
        raise UserError(f"image folder {images} cannot be read ({error.strerror}); check the path.") from error
    if not found:
        raise UserError(f"image folder {images} does not exist; check the path.")


def _parse(annotations: Path, images: Path) -> Parsed:
    try:
        with annotations.open("rb") as file:
            head = file.read(16)
    except OSError as error:
        raise UserError(f"annotation file {annotations} cannot be read ({error.strerror}); check the path.") from error
    mat = is_mat(annotations, head)
    document = None if mat else read_json(annotations, "annotation file")
    check_folder(images)
    if mat:
        return parse_mpii_mat(annotations, images)
    if isinstance(document, list):
        return parse_mpii(document, annotations, images)
    if isinstance(document, dict) and "annotations" in document:
        return parse_coco(document, annotations, images)
    raise UserError(
        f"{annotations} has no 'annotations'; give a COCO keypoint file, or MPII's list as HRNet's tools write it."
    )


def load_annotations(annotations: Path, images: Path, *, skip_missing: bool = False) -> PoseDataset:
    """Read a COCO keypoint file, an MPII file of HRNet's tools or MPII's release; which one is seen from its content.

    Args:
        annotations: the JSON or MATLAB file.
        images: the folder that its image names are relative to.
        skip_missing: leave people out, and count them, whose image file is missing, as long as one person has
            one. Otherwise a missing file is an error.

    Raises:
        UserError: the file is missing, malformed or of another format, image files are missing, or no
            usable person is left.
    """
    parsed = _parse(annotations, images)
    people, skipped, notes, paths, truth = (
        parsed.people, parsed.skipped, parsed.notes, parsed.images, parsed.truth,
    )  # fmt: skip
    if not people:
        reasons = str(skipped) or "the file lists none"
        raise UserError(f"{annotations} holds no usable person ({reasons}); give a file with labelled people.")

    missing = set(absent := missing_files(person.image_path for person in people))
    kept = [person for person in people if person.image_path not in missing]
    if missing and not (skip_missing and kept):
        raise UserError(
            f"{len(missing)} of the images that {annotations} names are missing, the first is {absent[0]}; "
            "give the folder that holds them."
        )
    if missing:
        for person in people:
            if person.image_path in missing:
                skipped.add(_NO_IMAGE, person.image_path.name)
        paths = {identifier: path for identifier, path in paths.items() if path not in missing}
        truth = truth and truth.of_images(paths)
    return PoseDataset(
        annotations.stem,
        parsed.keypoints,
        kept,
        dict(skipped.counts),
        dict(notes.counts),
        {**skipped.examples, **notes.examples},
        paths,
        truth,
    )
