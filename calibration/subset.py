"""Choosing the people on whom accuracy is measured, and keeping the choice as a manifest.

A held-out subset is drawn by a seed, has the data set's proportions of person sizes and of visible joints, and shares
no image with those that calibrated the artifact. Images are the same where the bytes of their files are, whatever
their names.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from bihrnet_edge.calibration.manifest import VERSION, SubsetManifest, SubsetPerson
from bihrnet_edge.data.dataset import PoseDataset
from bihrnet_edge.data.person import Person
from bihrnet_edge.errors import UserError
from bihrnet_edge.files import sha256

#: Quantile bins of either property: small, middle, large.
_BINS = 3


def hash_images(paths: Iterable[Path], progress: Callable[[int, int], None] | None = None) -> dict[Path, str]:
    """SHA-256 of each file, in the order of first mention; read in pieces, so that memory stays flat.

    Args:
        paths: files; one that is named twice is read once.
        progress: called with the files done and the files in all.

    Raises:
        UserError: a file cannot be read.
    """
    unique = list(dict.fromkeys(paths))
    digests = {}
    for done, path in enumerate(unique, start=1):
        digests[path] = _digest(path, "image")
        if progress is not None:
            progress(done, len(unique))
    return digests


def choose_subset(
    dataset: PoseDataset,
    annotations: Path,
    images: Path,
    size: int,
    seed: int = 0,
    *,
    calibration: Iterable[Path] = (),
    others: Sequence[SubsetManifest] = (),
    leave_out: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> SubsetManifest:
    """Draw ``size`` people, stratified by person size and visible joints.

    Each property is cut at its terciles over the people that can be drawn: the box's area relative to its image's,
    and the number of labelled joints. A stratum of both gets its share of ``size``, rounded by largest remainder;
    within it people are drawn by the hash of seed, annotation id and image content, so the choice does not change
    with the machine, with library versions or with the order of the file.

    Args:
        dataset: the people to draw from.
        annotations: its file, whose hash the manifest states.
        images: the folder that image names are given relative to.
        size: people to draw.
        seed: another seed draws other people.
        calibration: images that the subset must not contain.
        others: subsets with which it must share no image.
        leave_out: draw from the rest where images overlap, instead of refusing.
        progress: called with the image files hashed and the files in all.

    Raises:
        UserError: images overlap, there are fewer people than ``size``, or a file cannot be read.
    """
    digests = hash_images((person.image_path for person in dataset.people), progress)
    taken = _owners(calibration, others)
    overlap = next((path for path in digests if digests[path] in taken), None)
    if overlap is not None and not leave_out:
        raise UserError(
            f"image {overlap} has the same content as {taken[digests[overlap]]}; a held-out subset must share no "
            "image with these: leave such images out, or give other ones."
        )
    # An id that the file uses twice would name two people: the first has it.
    by_id: dict[int, Person] = {}
    for person in dataset.people:
        by_id.setdefault(person.annotation_id, person)
    people = [person for person in by_id.values() if digests[person.image_path] not in taken]
    if not 1 <= size <= len(people):
        apart = f", {len(by_id) - len(people)} overlapping ones left out" if len(people) < len(by_id) else ""
        raise UserError(
            f"a subset of {size} people cannot be drawn from {annotations}: it has {len(people)}{apart}; "
            "give a size from 1 to that."
        )
    strata = _strata(people)
    chosen = _draw(people, strata, [digests[person.image_path] for person in people], size, seed)
    return SubsetManifest(
        VERSION,
        seed,
        annotations.name,
        _digest(annotations, "annotation file"),
        tuple(
            SubsetPerson(
                people[index].annotation_id,
                _name_in(people[index].image_path, images),
                digests[people[index].image_path],
                strata[index],
            )
            for index in chosen
        ),
    )


def refuse_overlap(
    manifest: SubsetManifest, calibration: Iterable[Path] = (), others: Sequence[SubsetManifest] = ()
) -> None:
    """Make sure that a subset shares no image with calibration images and with other subsets.

    Raises:
        UserError: it does; names the first file that does. Or a calibration image cannot be read.
    """
    taken = _owners(calibration, others)
    for person in manifest.people:
        if person.image_sha256 in taken:
            raise UserError(
                f"image {person.image} of the held-out subset of {manifest.annotations} has the same content as "
                f"{taken[person.image_sha256]}; choose a subset that leaves it out."
            )


def subset_of(dataset: PoseDataset, manifest: SubsetManifest, annotations: Path) -> PoseDataset:
    """The people of ``dataset`` that a manifest names, in its order; without ``truth``, which has the others as well.

    Raises:
        UserError: the annotation file or an image is not the one that the manifest was made from, or a person is
            not in it.
    """
    if _digest(annotations, "annotation file") != manifest.annotations_sha256:
        raise UserError(
            f"{annotations} is not the file that the subset of {manifest.annotations} was chosen from (their contents "
            "differ); give that file, or choose the subset again."
        )
    by_id = {person.annotation_id: person for person in dataset.people}
    missing = [person.annotation_id for person in manifest.people if person.annotation_id not in by_id]
    if missing:
        raise UserError(
            f"{len(missing)} people of the subset are no usable people of {annotations}, the first is annotation "
            f"{missing[0]}; choose the subset again."
        )
    people = [by_id[person.annotation_id] for person in manifest.people]
    digests = hash_images(person.image_path for person in people)
    for person, wanted in zip(people, manifest.people, strict=True):
        if digests[person.image_path] != wanted.image_sha256:
            raise UserError(
                f"image {person.image_path} is not the {wanted.image} that the subset was chosen from (their "
                "contents differ); give the folder that holds it."
            )
    return dataclasses.replace(dataset, people=people, truth=None)


def _digest(path: Path, what: str) -> str:
    try:
        return sha256(path)
    except OSError as error:
        raise UserError(f"{what} {path} cannot be read ({error.strerror}); check the path.") from error


def _owners(calibration: Iterable[Path], others: Sequence[SubsetManifest]) -> dict[str, str]:
    """Content hash to what a sentence calls the image."""
    owners: dict[str, str] = {}
    for path, digest in hash_images(calibration).items():
        owners.setdefault(digest, f"the calibration image {path}")
    for manifest in others:
        for person in manifest.people:
            owners.setdefault(person.image_sha256, f"{person.image} of the subset of {manifest.annotations}")
    return owners


def _name_in(path: Path, folder: Path) -> str:
    return (path.relative_to(folder) if path.is_relative_to(folder) else Path(path.name)).as_posix()


def _strata(people: Sequence[Person]) -> list[str]:
    """The stratum of each person, e.g. ``size 1/3, joints 3/3``: bins from small to large."""
    areas: dict[Path, int] = {}
    for person in people:
        if person.image_path not in areas:
            areas[person.image_path] = _image_area(person.image_path)
    size = _bins([person.box[2] * person.box[3] / areas[person.image_path] for person in people])
    joints = _bins([int(person.visible.sum()) for person in people])
    return [f"size {a + 1}/{_BINS}, joints {b + 1}/{_BINS}" for a, b in zip(size, joints, strict=True)]


def _image_area(path: Path) -> int:
    """Pixels, from the file's header."""
    try:
        with Image.open(path) as image:
            return max(image.width * image.height, 1)
    except Exception as error:  # Pillow's readers raise whatever the damaged bytes lead them into
        raise UserError(f"image {path} cannot be read ({error}); it may be truncated or no image.") from error


def _bins(values: Sequence[float]) -> list[int]:
    """Quantile bins; equal values share one, so some stay empty where many are equal."""
    edges = np.quantile(np.asarray(values, np.float64), np.arange(1, _BINS) / _BINS)
    return [int(bin_) for bin_ in np.searchsorted(edges, values, side="right")]


def _draw(people: Sequence[Person], strata: Sequence[str], digests: Sequence[str], size: int, seed: int) -> list[int]:
    """Indices of the people drawn, in their order."""
    counts = Counter(strata)
    # Largest remainder in whole numbers: no rounding that another machine could do differently.
    shares = {name: divmod(size * count, len(people)) for name, count in counts.items()}
    wanted = {name: whole for name, (whole, _) in shares.items()}
    by_remainder = sorted(shares, key=lambda name: (-shares[name][1], name))
    for name in by_remainder[: size - sum(wanted.values())]:
        wanted[name] += 1

    def lot(index: int) -> str:
        return hashlib.sha256(f"{seed}/{people[index].annotation_id}/{digests[index]}".encode()).hexdigest()

    chosen: list[int] = []
    for index in sorted(range(len(people)), key=lot):
        if wanted[strata[index]] > 0:
            wanted[strata[index]] -= 1
            chosen.append(index)
    return sorted(chosen)
