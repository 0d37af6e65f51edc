"""MPII's release, built here with the irregularities of the published file."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from bihrnet_edge.data.dataset import load_annotations
from bihrnet_edge.errors import UserError
from bihrnet_edge.metrics.pck import metric_for
from bihrnet_edge.pose.keypoints import MPII

io = pytest.importorskip("scipy.io")
EMPTY = np.empty((0, 0))  # what MATLAB stores for []
WriteMat = Callable[..., Path]


def array(*structs: dict[str, Any]) -> Any:
    """A struct array. As in the release, members which lack a field of another have it empty."""
    names = list(dict.fromkeys(name for struct in structs for name in struct))
    result = np.empty((1, len(structs)), [(name, object) for name in names])
    for index, struct in enumerate(structs):
        for name in names:
            result[0, index][name] = struct.get(name, EMPTY)
    return result


def point(which: int, x: float, y: float, visible: Any = 1) -> dict[str, Any]:
    return {"x": float(x), "y": float(y), "id": which, "is_visible": visible}


def person(points: list[dict[str, Any]] | None = None, **changes: Any) -> dict[str, Any]:
    points = [point(which, 30 + which, 40 + which) for which in range(16)] if points is None else points
    return {
        "x1": 20, "y1": 10, "x2": 50, "y2": 50, "annopoints": {"point": array(*points)},
        "scale": 0.3, "objpos": {"x": 50.0, "y": 40.0},
    } | changes  # fmt: skip


def image(name: str, *people: dict[str, Any]) -> dict[str, Any]:
    return {"image": {"name": name}, "annorect": array(*people) if people else EMPTY}


@pytest.fixture
def write_mat(tmp_path: Path) -> WriteMat:
    def write(
        *annolist: dict[str, Any],
        img_train: list[int] | None = None,
        single: list[Any] | None = None,
        compressed: bool = False,
    ) -> Path:
        cells = np.empty((len(annolist), 1), object)
        for index, value in enumerate([[1]] * len(annolist) if single is None else single):
            cells[index, 0] = np.array(value, np.uint8)
        release = {
            "annolist": array(*annolist),
            "img_train": np.array([[1] * len(annolist) if img_train is None else img_train], np.uint8),
            "version": "12",
            "single_person": cells,
        }
        path = tmp_path / "mpii.mat"
        io.savemat(path, {"before": [1, 2], "RELEASE": release}, do_compression=compressed)
        return path

    return write


def test_reads_a_person(write_mat: WriteMat, images: Path) -> None:
    dataset = load_annotations(write_mat(image("a.png", person())), images)
    (one,) = dataset.people
    assert dataset.keypoints is MPII
    assert (one.image_path, one.image_id, one.annotation_id) == (images / "a.png", 1, 1)
    assert one.head_size == pytest.approx(0.6 * 50)  # a head box of 30 by 40
    assert one.keypoints[2].tolist() == [31, 41]  # counted from 0
    assert one.visible.all()
    assert (dataset.skipped, dataset.notes, dataset.truth) == ({}, {}, None)
    assert metric_for(MPII).lengths([one]).tolist() == pytest.approx([30])


def test_irregularities_of_the_release(write_mat: WriteMat, images: Path) -> None:
    head = [point(9, 33, 20, EMPTY), point(8, 34, 35, EMPTY)]  # visibility of the head is not annotated
    some = [point(10, 5, 6, "0"), point(15, 7, 8, "1"), point(0, 9, 9, np.uint8(0)), *head]
    dataset = load_annotations(
        write_mat(
            image("a.png", person(some), person(scale=EMPTY), person(annopoints=EMPTY), person(objpos=EMPTY)),
            image("test.png", person(), {"scale": 1.0, "objpos": {"x": 1.0, "y": 2.0}}),
            image("b.png"),
            image("b.png", {"x1": 1, "y1": 1, "x2": 2, "y2": 2}),  # no field annopoints at all
            image("b.png", person([point(3, 60, 61)], x1=EMPTY), person(annopoints={"point": EMPTY})),
            img_train=[1, 0, 1, 1, 1],
            single=[[1, 2, 3, 4], [1], [], [], [2]],
        ),
        images,
    )
    first, second = dataset.people
    assert np.flatnonzero(first.visible).tolist() == [0, 8, 9, 10, 15]  # occluded joints are labelled
    assert first.keypoints[[0, 8, 10]].tolist() == [[8, 8], [33, 34], [4, 5]]
    assert second.keypoints[3].tolist() == [59, 60]
    assert second.head_size is None
    assert [one.annotation_id for one in dataset.people] == [1, 8]
    assert [one.image_id for one in dataset.people] == [1, 2]
    assert dataset.skipped == {
        "no centre or scale": 2,
        "no labelled keypoints": 3,
        "test image without published joints": 2,
    }
    assert dataset.notes == {"people that do not stand apart": 1}
    assert dataset.examples["people that do not stand apart"] == ("b.png, person 1",)


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (person([point(16, 1, 2)]), "malformed keypoints"),
        (person([point(3, 1, 2), point(3, 4, 5)]), "malformed keypoints"),
        (person([point(3, math.nan, 2)]), "malformed keypoints"),
        (person([{"x": 1.0, "y": 2.0}]), "malformed keypoints"),
        (person(scale=math.inf), "malformed centre or scale"),
        (person(scale="big"), "malformed centre or scale"),
        (person(scale=0), "no centre or scale"),
        (person(objpos={"x": math.nan, "y": 1.0}), "malformed centre or scale"),
        (person(objpos=3), "no centre or scale"),
        (person(x1=math.nan), "malformed head size"),
        (person(x1="left"), "malformed head size"),
        (person(annopoints=7), "no labelled keypoints"),
    ],
)
def test_one_persons_malformed_numbers_cost_that_person(
    write_mat: WriteMat, images: Path, broken: dict[str, Any], reason: str
) -> None:
    dataset = load_annotations(write_mat(image("a.png", broken, person())), images)
    assert [one.annotation_id for one in dataset.people] == [2]
    assert dataset.skipped == {reason: 1}
    assert dataset.examples[reason][0].startswith("a.png, person 1")


def test_equals_the_json_form(shared_data: Path, write_mat: WriteMat) -> None:
    folder = shared_data / "mpii_sample"
    entries = json.loads((folder / "test_mpii.json").read_bytes())
    annolist = [
        image(
            entry["image"],
            person(
                [
                    point(which, *place)
                    for which, (place, shown) in enumerate(zip(entry["joints"], entry["joints_vis"], strict=True))
                    if shown
                ][::-1],
                scale=entry["scale"],
                objpos=dict(zip("xy", entry["center"], strict=True)),
            ),
        )
        for entry in entries
    ]
    ours = load_annotations(write_mat(*annolist), folder)
    theirs = load_annotations(folder / "test_mpii.json", folder)
    assert len(ours) == len(theirs) == 5
    for one, other in zip(ours.people, theirs.people, strict=True):
        assert (one.image_path, one.image_id, one.annotation_id) == (
            other.image_path, other.image_id, other.annotation_id,
        )  # fmt: skip
        assert one.box == other.box
        np.testing.assert_array_equal(one.visible, other.visible)
        np.testing.assert_array_equal(one.keypoints[one.visible], other.keypoints[other.visible])


def test_compressed_as_the_release(write_mat: WriteMat, images: Path) -> None:
    plain = load_annotations(write_mat(image("a.png", person(), person())), images)
    packed = load_annotations(write_mat(image("a.png", person(), person()), compressed=True), images)
    assert len(plain) == len(packed) == 2
    for one, other in zip(plain.people, packed.people, strict=True):
        assert (one.box, one.head_size) == (other.box, other.head_size)
        np.testing.assert_array_equal(one.keypoints, other.keypoints)


def test_content_tells_it_from_json(write_mat: WriteMat, images: Path) -> None:
    path = write_mat(image("a.png", person()))
    renamed = path.rename(path.with_suffix(".json"))
    assert len(load_annotations(renamed, images)) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not a whole MATLAB file"),
        (b"MATLAB 5.0 MAT-file", "is not a whole MATLAB file"),
        (b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM", "MATLAB 7.3 file"),
        (b'{"annotations": []}', "is not a whole MATLAB file"),
    ],
)
def test_other_files(tmp_path: Path, images: Path, content: bytes, message: str) -> None:
    path = tmp_path / "mpii.mat"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        load_annotations(path, images)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"other": 1}, "has no struct RELEASE"),
        ({"RELEASE": 3}, "has no struct RELEASE"),
        ({"RELEASE": {"annolist": EMPTY, "img_train": 1}}, "lists 0 images and 1 marks"),
        ({"RELEASE": {"annolist": array(image("a.png", person()))}}, "lists 1 images and 0 marks"),
        ({"RELEASE": {"annolist": array({"annorect": EMPTY}), "img_train": 1}}, "image 1 of its annolist has no name"),
        ({"RELEASE": {"annolist": array(image("a.png")), "img_train": 1}}, "the file lists none"),
    ],
)
def test_other_structs(tmp_path: Path, images: Path, content: dict[str, Any], message: str) -> None:
    path = tmp_path / "mpii.mat"
    io.savemat(path, content)
    with pytest.raises(UserError, match=message):
        load_annotations(path, images)


@given(st.data())
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_file_is_said(write_mat: WriteMat, images: Path, data: st.DataObject) -> None:
    path = write_mat(image("a.png", person()), compressed=data.draw(st.booleans(), label="compressed"))
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans(), label="truncate"):
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    else:
        for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=3)):
            content[place] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    try:
        dataset = load_annotations(path, images)
    except UserError:
        return
    assert np.isfinite([one.box for one in dataset.people]).all()


def test_missing_images(write_mat: WriteMat, images: Path) -> None:
    path = write_mat(image("a.png", person()), image("gone.jpg", person()))
    with pytest.raises(UserError, match="1 of the images"):
        load_annotations(path, images)
    assert load_annotations(path, images, skip_missing=True).skipped == {"image file missing": 1}
    Image.new("RGB", (9, 9)).save(images / "gone.jpg")
    assert len(load_annotations(path, images)) == 2
