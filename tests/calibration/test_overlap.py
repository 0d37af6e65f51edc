"""Images in two sets: copied, renamed, stored again; what is only alike; and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers import fails, run
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from bihrnet_edge.calibration.manifest import SubsetManifest, SubsetPerson, write_manifest
from bihrnet_edge.calibration.overlap import Prints, compare, difference_hash
from bihrnet_edge.calibration.ranges import Ranges, write_ranges
from bihrnet_edge.files import sha256

DIGEST = "0" * 64


def manifest(path: Path, images: Path, *names: str) -> Path:
    people = tuple(
        SubsetPerson(index, name, sha256(images / name), "size 1/3, joints 1/3") for index, name in enumerate(names)
    )
    write_manifest(path, SubsetManifest(1, 0, "people.json", DIGEST, people))
    return path


@pytest.fixture
def images(dot_people: Path) -> Path:
    return dot_people / "images"


def counts(dot_people: Path, *arguments: object, code: int = 0) -> list[tuple[int, int, int]]:
    assert run("overlap", *arguments, "--json", dot_people / "found.json") == code
    pairs = json.loads((dot_people / "found.json").read_text())["pairs"]
    return [(len(pair["same_bytes"]), len(pair["same_pixels"]), len(pair["alike"])) for pair in pairs]


def test_subsets_without_a_common_image(dot_people: Path, images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sets = [manifest(dot_people / f"{i}.json", images, f"{2 * i}.png", f"{2 * i + 1}.png") for i in range(3)]
    assert counts(dot_people, *sets, "--images", images, "--alike", 0) == [(0, 0, 0)] * 3
    assert "no image is in two of them" in capsys.readouterr().out


def test_copies_are_found_by_bytes_and_by_pixels(
    dot_people: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The annotation file's images 0 and 1 come back under other names, 1 in another format; 2 comes back as a JPEG."""
    others = dot_people / "others"
    others.mkdir()
    shutil.copy(images / "0.png", others / "copy.png")
    with Image.open(images / "1.png") as picture:
        picture.save(others / "again.bmp")
    with Image.open(images / "2.png") as picture:
        picture.resize((520, 360)).save(others / "worse.jpg", quality=80)
    second = manifest(dot_people / "second.json", others, "copy.png", "again.bmp", "worse.jpg")
    folders = ["--images", images, "--images", others]
    assert counts(dot_people, dot_people / "people.json", second, *folders, code=2) == [(1, 1, 1)]
    found = json.loads((dot_people / "found.json").read_text())["pairs"][0]
    assert found["same_bytes"] == [[str(images / "0.png"), str(others / "copy.png")]]
    assert found["same_pixels"] == [[str(images / "1.png"), str(others / "again.bmp")]]
    assert found["alike"] == [[str(images / "2.png"), str(others / "worse.jpg")]]
    sentence = fails(capsys, "overlap", dot_people / "people.json", second, *folders)
    assert "2 images of" in sentence
    assert "0.png, which has the same bytes as" in sentence
    assert run("overlap", dot_people / "people.json", manifest(second, others, "worse.jpg"), *folders) == 0


def test_ranges_are_compared_by_digest(dot_people: Path, images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ranges = dot_people / "ranges.json"
    digests = tuple(sorted(sha256(images / f"{index}.png") for index in (3, 4)))
    write_ranges(ranges, Ranges("tiny", DIGEST, "minmax", 16, "a.json", DIGEST, digests, {"head": (-1.0, 1.0)}))
    apart = manifest(dot_people / "apart.json", images, "0.png", "5.png")
    assert counts(dot_people, ranges, apart, "--images", images) == [(0, 0, 0)]
    shared = manifest(dot_people / "shared.json", images, "4.png", "5.png")
    assert "4.png" in fails(capsys, "overlap", shared, ranges, "--images", images)


def test_bad_input_is_one_sentence(dot_people: Path, images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    people = dot_people / "people.json"
    good = manifest(dot_people / "good.json", images, "0.png")
    assert "give two or more files" in fails(capsys, "overlap", good, "--images", images)
    three = ["--images", images] * 3
    assert "--images is given 3 times for 2 sets" in fails(capsys, "overlap", good, people, *three)
    assert "cannot be read" in fails(capsys, "overlap", good, dot_people / "none.json", "--images", images)
    (dot_people / "half.json").write_text('{"people": [')
    assert "is not JSON" in fails(capsys, "overlap", good, dot_people / "half.json", "--images", images)
    other = manifest(dot_people / "other.json", images, "1.png")
    shutil.copy(images / "2.png", images / "1.png")
    assert "is not the one that" in fails(capsys, "overlap", good, other, "--images", images)
    (images / "1.png").unlink()
    assert "1.png does not exist" in fails(capsys, "overlap", good, other, "--images", images)


@given(st.integers(0, 2**32 - 1), st.floats(0.5, 0.9), st.integers(0, 20))
def test_difference_hash_survives_brightness(seed: int, gain: float, offset: int) -> None:
    """A darker picture keeps nearly all its comparisons; another picture's are as good as random."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 256, (16, 17), np.uint8).repeat(4, axis=0).repeat(4, axis=1)
    picture = np.stack([blocks] * 3, axis=-1)
    changed = (picture * gain + offset).astype(np.uint8)
    distance = int(np.unpackbits(difference_hash(picture) ^ difference_hash(changed)).sum())
    other = np.stack([rng.integers(0, 256, (64, 68), np.uint8)] * 3, axis=-1)
    assert distance <= 8
    assert np.unpackbits(difference_hash(picture) ^ difference_hash(other)).sum() > 60


def test_difference_hash_compares_neighbours() -> None:
    """Against the comparisons written out, on a picture that needs no resizing."""
    grey = np.random.default_rng(0).integers(0, 256, (16, 17), np.uint8)
    bits = np.unpackbits(difference_hash(np.stack([grey] * 3, axis=-1))).reshape(16, 16)
    assert all(bits[y, x] == (grey[y, x] < grey[y, x + 1]) for y in range(16) for x in range(16))


@given(st.lists(st.integers(0, 5), max_size=8), st.lists(st.integers(0, 5), max_size=8))
def test_every_common_image_is_found(first: list[int], second: list[int]) -> None:
    """Against Python's sets."""

    def prints(values: list[int], name: str) -> Prints:
        paths = tuple(Path(f"{name}{index}") for index in range(len(values)))
        keys = tuple(map(str, values))
        return Prints(paths, keys, keys, np.zeros((len(values), 32), np.uint8))

    (found,) = compare([Path("a"), Path("b")], [prints(first, "a"), prints(second, "b")], 0)
    assert {str(first[int(a.name[1:])]) for a, _ in found.contents} == {str(v) for v in set(first) & set(second)}
    assert not found.pixels  # the same pairs
    assert (found.failure is None) == (not set(first) & set(second))
