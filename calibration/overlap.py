"""Whether sets of images share any: found from the files themselves, not from digests noted when a set was drawn.

Two images are the same where the bytes of their files are, or where their decoded pixels are: copied, renamed, stored
again without loss. Beyond that they are alike where their difference hashes nearly agree: saved as JPEG, resized.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bihrnet_edge.calibration.manifest import read_manifest
from bihrnet_edge.calibration.ranges import read_ranges
from bihrnet_edge.console import Advance
from bihrnet_edge.data.dataset import load_annotations
from bihrnet_edge.errors import UserError
from bihrnet_edge.files import sha256
from bihrnet_edge.pose.crop import read_image

#: Side of the difference hash: so many rows of so many comparisons of neighbours.
_HASH_SIDE = 16
_SET_BITS = np.array([bin(value).count("1") for value in range(256)], np.uint8)


@dataclass(frozen=True)
class Listed:
    """The images of a set.

    Attributes:
        source: the file that lists them.
        kind: ``annotations``, ``subset`` or ``ranges``.
        images: their files, each once; none for ranges, which know the digests alone.
        noted: hex SHA-256 by image file, as the source notes it; of ranges by the digest itself.
    """

    source: Path
    kind: str
    images: tuple[Path, ...]
    noted: dict[Path, str]


@dataclass(frozen=True)
class Prints:
    """What the images of a set are recognised by, one row an image.

    Attributes:
        images: the files.
        contents: hex SHA-256 of the files' bytes.
        pixels: hex SHA-256 of height, width and RGB values; empty where only ``contents`` are known.
        hashes: uint8 ``(N, 32)``, the difference hash's bits; ``(0, 32)`` where only ``contents`` are known.
    """

    images: tuple[Path, ...]
    contents: tuple[str, ...]
    pixels: tuple[str, ...]
    hashes: NDArray[np.uint8]


@dataclass(frozen=True)
class Overlap:
    """What two sets have in common: pairs of images, the first set's first.

    Attributes:
        first, second: the sets' sources.
        contents: the same bytes.
        pixels: the same pixels in other bytes.
        alike: neither, but with difference hashes that nearly agree.
    """

    first: Path
    second: Path
    contents: tuple[tuple[Path, Path], ...]
    pixels: tuple[tuple[Path, Path], ...]
    alike: tuple[tuple[Path, Path], ...]

    @property
    def failure(self) -> str | None:
        """A sentence where an image is in both sets; None where none is."""
        same = self.contents + self.pixels
        if not same:
            return None
        what = "bytes" if self.contents else "pixels"
        return (
            f"{len(same)} images of {self.first} are also in {self.second}; the first is {same[0][0]}, which has the "
            f"same {what} as {same[0][1]}: choose one of the sets again without them."
        )

    def to_dict(self) -> dict[str, object]:
        """JSON-serialisable."""
        lists = {"same_bytes": self.contents, "same_pixels": self.pixels, "alike": self.alike}
        named = {key: [[str(a), str(b)] for a, b in pairs] for key, pairs in lists.items()}
        return {"first": str(self.first), "second": str(self.second), **named}


def list_images(source: Path, images: Path) -> Listed:
    """The images that an annotation file, a subset's manifest or calibrated ranges name.

    Args:
        source: the file; what it is is seen from its content.
        images: the folder that its image names are relative to.

    Raises:
        UserError: it is none of these, is malformed, or images are missing.
    """
    try:
        document = json.loads(source.read_bytes()) if source.suffix.lower() == ".json" else None
    except OSError as error:
        raise UserError(f"{source} cannot be read ({error.strerror}); check the path.") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{source} is not JSON ({error}); it may be truncated.") from error
    if isinstance(document, dict) and "image_sha256" in document:
        digests = dict.fromkeys(read_ranges(source).image_sha256)
        return Listed(source, "ranges", (), {Path(digest): digest for digest in digests})
    if isinstance(document, dict) and "people" in document:
        noted = {images / person.image: person.image_sha256 for person in read_manifest(source).people}
        return Listed(source, "subset", tuple(noted), noted)
    people = load_annotations(source, images).people
    return Listed(source, "annotations", tuple(dict.fromkeys(person.image_path for person in people)), {})


def read_prints(listed: Listed, advance: Advance) -> Prints:
    """Read every image of a set.

    Args:
        listed: the set.
        advance: called with the images read and the images in all.

    Raises:
        UserError: an image cannot be read, or is not the one that the set's source notes.
    """
    if listed.kind == "ranges":
        none = np.zeros((0, _HASH_SIDE**2 // 8), np.uint8)
        return Prints(tuple(listed.noted), tuple(listed.noted.values()), (), none)
    contents, pixels, hashes = [], [], []
    for done, path in enumerate(listed.images, start=1):
        image = read_image(path)
        contents.append(sha256(path))
        noted = listed.noted.get(path)
        if noted is not None and noted != contents[-1]:
            raise UserError(
                f"image {path} is not the one that {listed.source} notes (their contents differ); give the folder that "
                "holds it."
            )
        shape = "x".join(map(str, image.shape)).encode()
        pixels.append(hashlib.sha256(shape + image.tobytes()).hexdigest())
        hashes.append(difference_hash(image))
        advance(done, len(listed.images))
    return Prints(listed.images, tuple(contents), tuple(pixels), np.stack(hashes))


def difference_hash(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """256 bits, uint8 ``(32,)``: whether each pixel of the image, shrunk to 17x16 grey ones, is darker than the next.

    Robust to scaling, compression and brightness, not to cropping and mirroring. Source: Krawetz, "Kind of like that"
    (2013).

    Args:
        image: uint8 ``(H, W, 3)``, RGB.
    """
    grey = Image.fromarray(image).convert("L").resize((_HASH_SIDE + 1, _HASH_SIDE), Image.Resampling.BOX)
    values = np.asarray(grey, np.int16)
    return np.packbits(values[:, :-1] < values[:, 1:])


def compare(sources: Sequence[Path], prints: Sequence[Prints], alike_bits: int) -> Iterator[Overlap]:
    """Each pair of sets.

    Args:
        sources: what the sets are called.
        prints: of each.
        alike_bits: images whose hashes differ in at most so many of 256 bits are alike.
    """
    for a, b in combinations(range(len(sources)), 2):
        first, second = prints[a], prints[b]
        contents = _equal(first.images, first.contents, second.images, second.contents)
        known = set(contents)
        pixels = [
            pair for pair in _equal(first.images, first.pixels, second.images, second.pixels) if pair not in known
        ]
        known.update(pixels)
        alike = [
            pair
            for row, column in _near(first.hashes, second.hashes, alike_bits)
            if (pair := (first.images[row], second.images[column])) not in known
        ]
        yield Overlap(sources[a], sources[b], tuple(contents), tuple(pixels), tuple(alike))


def _equal(
    images: Sequence[Path], keys: Sequence[str], others: Sequence[Path], other_keys: Sequence[str]
) -> list[tuple[Path, Path]]:
    """Pairs with one key; of several such others the first."""
    first: dict[str, Path] = {}
    for path, key in zip(others, other_keys, strict=False):
        first.setdefault(key, path)
    return [(path, first[key]) for path, key in zip(images, keys, strict=False) if key in first]


def _near(hashes: NDArray[np.uint8], others: NDArray[np.uint8], bits: int) -> Iterator[tuple[int, int]]:
    for row, own in enumerate(hashes):
        distances = _SET_BITS[others ^ own].sum(axis=1, dtype=np.int64)
        for column in np.flatnonzero(distances <= bits):
            yield row, int(column)
