"""The library behind ``check``, with real models that find dots."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from bihrnet_edge.calibration.check import check_models
from bihrnet_edge.calibration.html_report import render
from bihrnet_edge.console import Advance
from bihrnet_edge.data.dataset import PoseDataset, load_annotations
from bihrnet_edge.errors import UserError

Model = Callable[..., Path]


@contextlib.contextmanager
def quiet(_: str) -> Iterator[Advance]:
    yield lambda done, total: None


@pytest.fixture
def dataset(dot_people: Path) -> PoseDataset:
    return load_annotations(dot_people / "people.json", dot_people / "images")


def test_the_drop_by_hand(dot_model: Model, dataset: PoseDataset) -> None:
    """Joints 1 and 2 changed places in the artifact; a third of the joints stays right in every resample."""
    models = [str(dot_model("good")), str(dot_model("bad", colours=(0, 2, 1)))]
    result = check_models(models[0], models[1:], dataset, max_drop=66, resamples=50, step=quiet)
    (check,) = result.artifacts
    assert (check.drop.reference, check.drop.artifact) == (100.0, pytest.approx(100 / 3))
    assert (check.drop.drop.low, check.drop.drop.high) == pytest.approx((200 / 3, 200 / 3))
    assert [one.value for one in check.drop.per_joint] == [0.0, 100.0, 100.0]
    assert not check.passed
    assert "bad.onnx loses 66.67 points of PCK@0.2" in str(result.failure)
    assert check_models(models[0], models[1:], dataset, max_drop=67, resamples=50, step=quiet).failure is None
    # How far apart: the distance of hip and wrist, as annotated, but for the heatmaps' grid.
    truth = np.stack([person.keypoints for person in dataset.people])
    apart = np.linalg.norm(truth[:, 1] - truth[:, 2], axis=1)
    assert check.differences.distances[:, 1] == pytest.approx(apart, abs=8)
    assert (check.differences.distances[:, 0] == 0).all()
    assert check.facts.sha256 == hashlib.sha256(Path(models[1]).read_bytes()).hexdigest()
    assert check.facts.runtime == "onnxruntime"


def test_a_gain_is_no_loss(dot_model: Model, dataset: PoseDataset) -> None:
    models = [str(dot_model("bad", colours=(0, 2, 1))), str(dot_model("good"))]
    result = check_models(models[0], models[1:], dataset, max_drop=0, resamples=50, step=quiet)
    assert result.failure is None
    assert result.artifacts[0].drop.drop.value < 0


def test_the_worst_come_first_one_an_image(dot_model: Model, dataset: PoseDataset) -> None:
    doubled = dataclasses.replace(dataset, people=[*dataset.people, dataset.people[0]])
    good, bad = str(dot_model("good")), str(dot_model("bad", colours=(0, 2, 1)))
    result = check_models(good, [good, bad], doubled, worst=4, resamples=10, step=quiet)
    assert len(result.worst) == len({worst.name for worst in result.worst}) == 4
    assert {worst.artifact_name for worst in result.worst} == {"bad.onnx"}
    distances = result.artifacts[1].differences.distances
    sizes = np.array([max(person.box[2:]) for person in doubled.people])
    assert result.worst[0].name == doubled.people[int((distances.max(axis=1) / sizes).argmax())].image_path.name
    assert "px apart" in result.worst[0].note
    assert check_models(good, [good], doubled, resamples=10, step=quiet).worst == ()  # nothing differs


def test_joints_common_to_all_models_are_compared(dot_model: Model, dataset: PoseDataset) -> None:
    two = str(dot_model("two", ("left_wrist", "right_shoulder"), (2, 0)))
    result = check_models(str(dot_model("good")), [two], dataset, resamples=10, step=quiet)
    assert result.keypoints.keypoints == ("right_shoulder", "left_wrist")
    assert result.left_out == ("left_hip",)
    assert result.artifacts[0].drop.drop.value == 0
    assert result.oks_ap == {}  # over other joints each, so not to be compared
    with pytest.raises(UserError, match="no joint in common"):
        check_models(two, [str(dot_model("hip", ("left_hip",), (1,)))], dataset, resamples=10, step=quiet)


def test_two_files_of_one_name_are_told_apart(dot_model: Model, dataset: PoseDataset, tmp_path: Path) -> None:
    good = dot_model("good")
    copy = tmp_path / good.name
    copy.write_bytes(good.read_bytes())
    result = check_models(str(good), [str(copy)], dataset, resamples=10, step=quiet)
    assert {result.reference.name, result.artifacts[0].facts.name} == {str(good), str(copy)}


def test_json_and_report_name_data_and_reasons(dot_model: Model, dataset: PoseDataset) -> None:
    good = str(dot_model("good"))
    odd = dataclasses.replace(dataset, skipped={"crowd": 7}, examples={"crowd": ("annotation 5",)})
    hipless = [dataclasses.replace(p, visible=np.array([True, i > 2, True])) for i, p in enumerate(odd.people)]
    result = check_models(good, [good], dataclasses.replace(odd, people=hipless), resamples=10, step=quiet)
    assert result.skipped == {"crowd": 7, "no reference length": 3}
    values = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert values["artifacts"][0]["per_joint"]["left_hip"]["value"] == 0
    assert values["artifacts"][0]["keypoints"]["per_joint"]["left_hip"]["max"] == 0
    html = render(result.report({"annotations": "people.json"}, "held-out.json"))
    for text in ("people.json", "held-out.json", "crowd (annotation 5, …)", "no reference length", "OKS AP of"):
        assert text in html
