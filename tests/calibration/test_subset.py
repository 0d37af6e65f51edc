"""Held-out subsets: proportions by a count of their own, determinism across processes, and overlap by content."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from bihrnet_edge.calibration.manifest import SubsetManifest, SubsetPerson, read_manifest, write_manifest
from bihrnet_edge.calibration.subset import _bins, _draw, choose_subset, hash_images, refuse_overlap, subset_of
from bihrnet_edge.data.dataset import PoseDataset, load_annotations
from bihrnet_edge.data.person import Person
from bihrnet_edge.errors import UserError
from bihrnet_edge.pose.keypoints import LSP

PEOPLE = 90


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Thirty pictures of two sizes and a file that stands for the annotations."""
    (tmp_path / "images" / "deep").mkdir(parents=True)
    for index in range(30):
        size = (20, 10) if index % 2 else (40, 30)
        name = f"deep/{index}.png" if index < 3 else f"{index}.png"
        Image.new("RGB", size, (index, 7 * index % 256, 0)).save(tmp_path / "images" / name)
    (tmp_path / "people.json").write_text("{}")
    return tmp_path


@pytest.fixture
def dataset(folder: Path) -> PoseDataset:
    rng = np.random.default_rng(0)
    paths = sorted((folder / "images").rglob("*.png"))
    people = []
    for index in range(PEOPLE):
        visible = np.arange(14) < rng.integers(1, 15)
        width, height = rng.uniform(2, 10, 2)
        box = (0.0, 0.0, float(width), float(height))
        people.append(Person(paths[index % 30], index % 30, 100 + index, box, np.zeros((14, 2), np.float32), visible))
    return PoseDataset("people", LSP, people, {})


def choose(dataset: PoseDataset, folder: Path, size: int = 31, seed: int = 0, **options: Any) -> SubsetManifest:
    return choose_subset(dataset, folder / "people.json", folder / "images", size, seed, **options)


def test_manifest_states_what_was_chosen(dataset: PoseDataset, folder: Path) -> None:
    manifest = choose(dataset, folder)
    assert len(manifest) == 31
    assert (manifest.version, manifest.seed, manifest.annotations) == (1, 0, "people.json")
    assert manifest.annotations_sha256 == hashlib.sha256(b"{}").hexdigest()
    by_id = {person.annotation_id: person for person in dataset.people}
    order = [person.annotation_id for person in manifest.people]
    assert order == sorted(set(order))
    for person in manifest.people:
        path = by_id[person.annotation_id].image_path
        assert folder / "images" / person.image == path
        assert hashlib.sha256(path.read_bytes()).hexdigest() == person.image_sha256
    assert any(person.image.startswith("deep/") for person in manifest.people)


def test_every_stratum_has_its_share(dataset: PoseDataset, folder: Path) -> None:
    """Terciles and shares counted again, in fractions."""
    everyone = Counter(person.stratum for person in choose(dataset, folder, PEOPLE).people)
    assert sum(everyone.values()) == PEOPLE
    areas = {p.annotation_id: p.box[2] * p.box[3] for p in dataset.people}
    relative = {
        p.annotation_id: areas[p.annotation_id] / (200 if Image.open(p.image_path).width == 20 else 1200)
        for p in dataset.people
    }
    ranked = sorted(relative, key=lambda key: relative[key])
    sizes = {key: rank * 3 // PEOPLE + 1 for rank, key in enumerate(ranked)}
    for person in choose(dataset, folder, PEOPLE).people:
        assert person.stratum.startswith(f"size {sizes[person.annotation_id]}/3, joints ")
    for size in (1, 8, 31, 89):
        drawn = Counter(person.stratum for person in choose(dataset, folder, size).people)
        assert sum(drawn.values()) == size
        for stratum, count in everyone.items():
            assert abs(drawn[stratum] - Fraction(size * count, PEOPLE)) < 1


@given(st.lists(st.integers(0, 5), min_size=1, max_size=60), st.data())
def test_draw_keeps_proportions(groups: list[int], data: st.DataObject) -> None:
    size = data.draw(st.integers(1, len(groups)))
    people = [
        Person(Path("x"), 0, i, (0, 0, 1, 1), np.zeros((1, 2), np.float32), np.ones(1, bool))
        for i in range(len(groups))
    ]
    strata = [f"s{group}" for group in groups]
    chosen = _draw(people, strata, [str(i) for i in range(len(groups))], size, data.draw(st.integers(0, 9)))
    assert len(set(chosen)) == size
    assert chosen == sorted(chosen)
    drawn = Counter(strata[index] for index in chosen)
    for stratum, count in Counter(strata).items():
        assert abs(drawn[stratum] - Fraction(size * count, len(groups))) < 1


def test_draw_is_the_same_on_every_machine() -> None:
    """Stated once, as SHA-256 gives it: what a published subset rests on."""
    people = [Person(Path("x"), 0, i, (0, 0, 1, 1), np.zeros((1, 2), np.float32), np.ones(1, bool)) for i in range(20)]
    lots = [hashlib.sha256(f"5/{i}/{'ab' * i}".encode()).hexdigest() for i in range(20)]
    expected = sorted(sorted(range(20), key=lambda i: lots[i])[:6])
    assert _draw(people, ["one"] * 20, ["ab" * i for i in range(20)], 6, 5) == expected == [2, 8, 9, 10, 12, 17]


@given(st.lists(st.integers(0, 4) | st.floats(0, 4), min_size=1, max_size=50))
def test_bins_keep_order_and_ties(values: list[float]) -> None:
    bins = _bins(values)
    pairs = sorted(zip(values, bins, strict=True))
    assert [b for _, b in pairs] == sorted(bins)
    assert set(bins) <= {0, 1, 2}
    by_value: dict[float, set[int]] = {}
    for value, bin_ in pairs:
        by_value.setdefault(value, set()).add(bin_)
    assert all(len(found) == 1 for found in by_value.values())


def test_seeded_and_independent_of_file_order(dataset: PoseDataset, folder: Path) -> None:
    one = choose(dataset, folder)
    assert one == choose(dataset, folder)
    shuffled = dataclasses.replace(dataset, people=dataset.people[::-1])
    assert set(choose(shuffled, folder).people) == set(one.people)
    other = choose(dataset, folder, seed=1)
    shared = {p.annotation_id for p in one.people} & {p.annotation_id for p in other.people}
    assert len(shared) < 25


def test_seeds_draw_everyone_about_as_often(dataset: PoseDataset, folder: Path) -> None:
    times: Counter[int] = Counter()
    for seed in range(40):
        times.update(p.annotation_id for p in choose(dataset, folder, 30, seed).people)
    assert len(times) == PEOPLE
    assert max(times.values()) < 30  # expected 13.3, standard deviation 3


def test_other_processes_choose_the_same(dataset: PoseDataset, folder: Path, shared_data: Path) -> None:
    """With other hash seeds, from a real file."""
    source = shared_data / "coco_mini"
    annotations, images = source / "annotations" / "person_keypoints_val2017.json", source / "val2017"
    script = (
        "import sys; from pathlib import Path; from bihrnet_edge.calibration.manifest import write_manifest\n"
        "from bihrnet_edge.calibration.subset import choose_subset\n"
        "from bihrnet_edge.data.dataset import load_annotations\n"
        "a, i, out = map(Path, sys.argv[1:])\n"
        "write_manifest(out, choose_subset(load_annotations(a, i), a, i, 20, 7))\n"
    )
    written = []
    for hash_seed in ("0", "1"):
        out = folder / f"{hash_seed}.json"
        command = [sys.executable, "-c", script, str(annotations), str(images), str(out)]
        subprocess.run(command, check=True, env={**os.environ, "PYTHONHASHSEED": hash_seed})
        written.append(out.read_bytes())
    assert written[0] == written[1]
    data = load_annotations(annotations, images)
    assert read_manifest(out) == choose_subset(data, annotations, images, 20, 7)
    assert len(subset_of(data, read_manifest(out), annotations)) == 20


def test_overlap_is_refused_by_content(dataset: PoseDataset, folder: Path) -> None:
    copy = folder / "elsewhere.jpeg"  # another name, another suffix, the same bytes
    copy.write_bytes((folder / "images" / "17.png").read_bytes())
    other = folder / "other.png"
    Image.new("RGB", (5, 5)).save(other)
    with pytest.raises(UserError, match=r"17\.png has the same content as the calibration image .*elsewhere\.jpeg"):
        choose(dataset, folder, calibration=[other, copy])
    rest = choose(dataset, folder, PEOPLE - 3, calibration=[other, copy], leave_out=True)
    assert not [person for person in rest.people if person.image == "17.png"]
    with pytest.raises(UserError, match=r"it has 87, 3 overlapping ones left out; give a size from 1"):
        choose(dataset, folder, PEOPLE - 2, calibration=[copy], leave_out=True)
    # One name, other bytes: no overlap.
    (folder / "calibration").mkdir()
    Image.new("RGB", (9, 9)).save(folder / "calibration" / "17.png")
    assert choose(dataset, folder, calibration=[folder / "calibration" / "17.png"]) == choose(dataset, folder)


def test_subsets_are_disjoint(dataset: PoseDataset, folder: Path) -> None:
    first = choose(dataset, folder, 6)
    with pytest.raises(UserError, match=r"has the same content as .*png of the subset of people\.json"):
        choose(dataset, folder, 6, seed=1, others=[first])
    second = choose(dataset, folder, 6, seed=1, others=[first], leave_out=True)
    refuse_overlap(second, others=[first])
    assert not {p.image_sha256 for p in first.people} & {p.image_sha256 for p in second.people}
    with pytest.raises(UserError, match=r"of the held-out subset of people\.json has the same content as"):
        refuse_overlap(first, others=[second, first])


@given(st.sets(st.integers(0, 29)), st.sets(st.integers(0, 29)))
def test_refuses_overlap_exactly_where_there_is_one(ours: set[int], theirs: set[int]) -> None:
    def manifest(contents: set[int]) -> SubsetManifest:
        people = tuple(SubsetPerson(i, f"{i}.png", f"{i:064x}", "s") for i in sorted(contents))
        return SubsetManifest(1, 0, "a.json", "0" * 64, people)

    if ours & theirs:
        with pytest.raises(UserError, match=rf"image {min(ours & theirs)}\.png of the held-out"):
            refuse_overlap(manifest(ours), others=[manifest(theirs)])
    else:
        refuse_overlap(manifest(ours), others=[manifest(theirs)])


def test_calibration_images_of_a_later_run(dataset: PoseDataset, folder: Path) -> None:
    manifest = choose(dataset, folder, PEOPLE)
    copy = folder / "copy"
    copy.write_bytes((folder / "images" / "deep" / "1.png").read_bytes())
    with pytest.raises(UserError, match=r"image deep/1\.png of the held-out .* calibration image .*copy"):
        refuse_overlap(manifest, [copy])
    with pytest.raises(UserError, match=r"absent\.png cannot be read"):
        refuse_overlap(manifest, [folder / "absent.png"])


def test_applied_to_its_data(dataset: PoseDataset, folder: Path) -> None:
    manifest = choose(dataset, folder)
    held_out = subset_of(dataset, manifest, folder / "people.json")
    assert [p.annotation_id for p in held_out.people] == [p.annotation_id for p in manifest.people]
    fewer = dataclasses.replace(dataset, people=dataset.people[:5])
    with pytest.raises(UserError, match=r"people of the subset are no usable people"):
        subset_of(fewer, manifest, folder / "people.json")
    Image.new("RGB", (3, 3)).save(held_out.people[0].image_path)
    with pytest.raises(UserError, match=r"is not the .* that the subset was chosen from"):
        subset_of(dataset, manifest, folder / "people.json")
    (folder / "people.json").write_text("[]")
    with pytest.raises(UserError, match=r"is not the file that the subset of people\.json was chosen from"):
        subset_of(dataset, manifest, folder / "people.json")


def test_an_id_used_twice_names_its_first_person(dataset: PoseDataset, folder: Path) -> None:
    double = dataclasses.replace(dataset.people[5], annotation_id=100)
    twice = dataclasses.replace(dataset, people=[*dataset.people, double])
    assert choose(twice, folder, PEOPLE) == choose(dataset, folder, PEOPLE)


@pytest.mark.parametrize("size", [0, -1, PEOPLE + 1])
def test_sizes_out_of_range(dataset: PoseDataset, folder: Path, size: int) -> None:
    with pytest.raises(UserError, match=f"subset of {size} people cannot be drawn"):
        choose(dataset, folder, size)


def test_unreadable_files_are_named(dataset: PoseDataset, folder: Path) -> None:
    path = dataset.people[4].image_path
    path.write_bytes(b"no image")
    with pytest.raises(UserError, match=path.name):
        choose(dataset, folder)
    path.unlink()
    with pytest.raises(UserError, match=f"image .*{path.name} cannot be read"):
        choose(dataset, folder)


def test_hashes_each_file_once(folder: Path) -> None:
    paths = sorted((folder / "images").glob("*.png"))[:3]
    seen: list[tuple[int, int]] = []
    digests = hash_images([*paths, *paths], lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert digests == {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


hexadecimal = st.text("0123456789abcdef", min_size=64, max_size=64)
people_strategy = st.lists(
    st.builds(SubsetPerson, st.integers(), st.text(min_size=1), hexadecimal, st.text(min_size=1)),
    min_size=1,
    unique_by=lambda person: person.annotation_id,
)


@given(st.integers(), st.text(min_size=1), hexadecimal, people_strategy)
def test_manifest_round_trip(
    tmp_path_factory: pytest.TempPathFactory, seed: int, name: str, digest: str, people: list[SubsetPerson]
) -> None:
    path = tmp_path_factory.mktemp("manifest") / "m.json"
    manifest = SubsetManifest(1, seed, name, digest, tuple(people))
    write_manifest(path, manifest)
    assert read_manifest(path) == manifest


SOUND: dict[str, Any] = {
    "version": 1,
    "seed": 0,
    "annotations": "a.json",
    "annotations_sha256": "0" * 64,
    "people": [{"annotation_id": 3, "image": "a.png", "image_sha256": "1" * 64, "stratum": "s"}],
}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"version": 2}, "has version 2, this bihrnet-edge reads 1"),
        ({"version": None}, "'version' is not a whole number"),
        ({"seed": True}, "'seed' is not a whole number"),
        ({"annotations": ""}, "'annotations' is not a text"),
        ({"annotations_sha256": "xyz"}, "'annotations_sha256' is not a SHA-256"),
        ({"people": []}, "'people' is not a list of people"),
        ({"people": [7]}, "person 0 is not a JSON object"),
        ({"people": [{"image": "a"}]}, "person 0 has no 'annotation_id'"),
        ({"people": SOUND["people"] * 2}, "person 1: annotation 3 is named twice"),
    ],
)
def test_malformed_manifests_are_named(tmp_path: Path, change: dict[str, Any], sentence: str) -> None:
    path = tmp_path / "m.json"
    path.write_text(json.dumps(SOUND))
    assert read_manifest(path).people[0].annotation_id == 3
    path.write_text(json.dumps({**SOUND, **change}))
    with pytest.raises(UserError, match=r"m\.json.*" + sentence):
        read_manifest(path)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[]", b"3", b"[" * 100_000])
def test_no_manifest_at_all(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "m.json"
    with pytest.raises(UserError, match=r"m\.json cannot be read"):
        read_manifest(path)
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"m\.json is not"):
        read_manifest(path)
