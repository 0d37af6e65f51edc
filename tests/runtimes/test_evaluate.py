"""Estimator and evaluation, with a network that finds dots of known colours instead of joints."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from bihrnet_edge.data.dataset import PoseDataset, load_annotations
from bihrnet_edge.data.detections import Detection, Detections
from bihrnet_edge.data.person import Person
from bihrnet_edge.data.results import write_results
from bihrnet_edge.data.truth import TruthBuilder
from bihrnet_edge.errors import UserError
from bihrnet_edge.pose.crop import Crop, box_to_crop
from bihrnet_edge.pose.heatmaps import DECODINGS, encode
from bihrnet_edge.pose.keypoints import COCO, MPII, KeypointSet
from bihrnet_edge.pose.metadata import PoseMetadata
from bihrnet_edge.runtimes.base import Runner
from bihrnet_edge.runtimes.crops import reading_order
from bihrnet_edge.runtimes.estimator import PoseEstimator, poses, run_heatmaps
from bihrnet_edge.runtimes.evaluate import evaluate

BODY = KeypointSet("body", ("right_shoulder", "left_hip", "left_wrist"), ((0, 1),))
SIGMA = 8.0


class DotRunner(Runner):
    """Heatmap k is the brightness of colour k at every fourth pixel."""

    name = "dots"
    batch = None

    def __init__(self) -> None:
        self.metadata = PoseMetadata("dots", 128, 96, BODY, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
        self.calls: list[int] = []

    def prepare(self, images: NDArray[np.float32]) -> None:
        self.images = images
        self.calls.append(len(images))

    def invoke(self) -> None:
        self.output = self.images[:, ::4, ::4].transpose(0, 3, 1, 2).copy()

    def heatmaps(self) -> NDArray[np.float32]:
        return self.output


def picture(points: NDArray[np.float64], width: int = 300, height: int = 200) -> NDArray[np.uint8]:
    """Soft dots, one colour channel per joint, whose maxima lie at the points."""
    x, y = np.arange(width), np.arange(height)[:, None]
    channels = [255 * np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * SIGMA**2)) for px, py in points]
    return np.rint(np.stack(channels, axis=-1)).astype(np.uint8)


def test_finds_points_in_image_pixels() -> None:
    boxes = [(20, 30, 60, 120), (150, 10, 140, 150)]
    points = np.array([[180.0, 60.0], [230.0, 100.0], [260.0, 40.0]])
    poses = PoseEstimator(DotRunner()).predict(picture(points), boxes)
    assert poses.shape == (2, 3, 3)
    assert poses.dtype == np.float32
    # A heatmap pixel of the second box is 1.25 * 150 / 32 = 6 image pixels; a quarter-pixel shift halves the error.
    assert abs(poses[1, :, :2] - points).max() < 3
    assert poses[1, :, 2].min() > 0.8  # the dot may lie between two heatmap pixels
    assert poses[0, :, 2].max() < 0.2  # nothing in the first box


def test_moves_with_the_picture() -> None:
    points = np.array([[80.0, 60.0], [110.0, 100.0], [95.0, 140.0]])
    estimator, box, shift = PoseEstimator(DotRunner()), np.array([50.0, 40.0, 80, 120]), np.array([100, 20])
    here = estimator.predict(picture(points), box)
    there = estimator.predict(picture(points + shift), box + np.array([*shift, 0, 0]))
    np.testing.assert_allclose(there[..., :2] - here[..., :2], np.broadcast_to(shift, (1, 3, 2)), atol=1e-3)


def test_many_and_no_boxes() -> None:
    runner = DotRunner()
    estimator, image = PoseEstimator(runner), picture(np.array([[50.0, 50.0]] * 3))
    boxes = np.tile([20.0, 20, 60, 80], (11, 1))
    poses = estimator.predict(image, boxes)
    assert runner.calls == [8, 3]
    np.testing.assert_array_equal(poses, np.repeat(poses[:1], 11, axis=0))
    assert estimator.predict(image, np.empty((0, 4))).shape == (0, 3, 3)


def test_dark_is_closer_than_the_quarter_pixel() -> None:
    points = np.array([[180.0, 60.0], [230.0, 100.0], [260.0, 40.0]])
    image, box = picture(points), [150, 10, 140, 150]
    errors = {
        name: np.linalg.norm(PoseEstimator(DotRunner(), decoding=name).predict(image, box)[0, :, :2] - points, axis=1)
        for name in DECODINGS
    }
    assert errors["dark"].mean() < errors["quarter"].mean()
    assert errors["dark"].max() < 1.5  # a heatmap pixel is 6 image pixels
    heatmaps = np.zeros((1, 3, 32, 24), np.float32)
    with pytest.raises(UserError, match="no decoding"):
        poses(heatmaps, [Crop(0, 0, 1, 1)], "other")  # type: ignore[arg-type]


class MirrorRunner(DotRunner):
    """A network that knows left from right: in a mirror, joints 1 and 2 change places."""

    def __init__(self) -> None:
        super().__init__()
        pair = KeypointSet("pair", ("nose", "left_eye", "right_eye"))
        self.metadata = dataclasses.replace(self.metadata, keypoints=pair)


def test_flip_test_averages_with_the_mirror() -> None:
    """By hand: heatmap k is colour k at every fourth pixel, of the picture and of its mirror image."""
    runner = MirrorRunner()
    images = np.random.default_rng(0).random((2, 128, 96, 3), np.float32)
    assert np.array_equal(run_heatmaps(runner, images), images[:, ::4, ::4].transpose(0, 3, 1, 2))
    runner.calls.clear()
    got = run_heatmaps(runner, images, flip_test=True)
    assert runner.calls == [2, 2]
    for n, k, y, x in np.ndindex(2, 3, 4, 24):
        mirrored = images[n, 4 * y, 95 - 4 * (23 - max(x - 1, 0)), (0, 2, 1)[k]]
        assert got[n, k, y, x] == pytest.approx((images[n, 4 * y, 4 * x, k] + mirrored) / 2)


def test_flip_test_finds_points_too() -> None:
    points = np.array([[180.0, 60.0], [230.0, 100.0], [230.0, 100.0]])  # both eyes in one place: their colours swap
    found = PoseEstimator(MirrorRunner(), flip_test=True, decoding="dark").predict(picture(points), [150, 10, 140, 150])
    # The mirror's peaks lie a quarter of a heatmap pixel, 6 image pixels, to the right; the mean's half of that.
    assert found[0, :, :2] - points == pytest.approx(np.array([[0.75, 0]] * 3), abs=0.3)


def test_bad_arguments() -> None:
    estimator = PoseEstimator(DotRunner())
    with pytest.raises(UserError, match="has no area"):
        estimator.predict(picture(np.zeros((3, 2))), [[0, 0, 0, 5]])
    with pytest.raises(ValueError, match="not uint8"):
        estimator.predict(np.zeros((4, 4, 3), np.float32), [[0, 0, 4, 4]])  # type: ignore[arg-type]


@pytest.fixture
def dataset(tmp_path: Path) -> PoseDataset:
    """Five people on two pictures, taken in turns; what is labelled is where the dots are."""
    rng = np.random.default_rng(0)
    people = []
    layouts = {}
    for name in ("a.png", "b.png"):
        layouts[name] = np.array([[60.0, 50.0], [110.0, 130.0], [150.0, 60.0]]) + rng.uniform(0, 40, (1, 2))
        Image.fromarray(picture(layouts[name])).save(tmp_path / name)
    for index in range(5):
        name = "ab"[index % 2] + ".png"
        points = layouts[name].astype(np.float32)
        low, high = points.min(axis=0), points.max(axis=0)
        people.append(Person(tmp_path / name, index % 2, index, (*low, *(high - low)), points, np.ones(3, bool)))
    return PoseDataset("dots", BODY, people, {"crowd": 2})


def test_perfect_network_scores_100(dataset: PoseDataset) -> None:
    runner, done = DotRunner(), []
    result = evaluate(runner, dataset, batch=2, progress=lambda *counts: done.append(counts))
    assert (result.metric, result.value, result.people) == ("PCK@0.2", 100.0, 5)
    assert result.per_joint == {"right_shoulder": 100.0, "left_hip": 100.0, "left_wrist": 100.0}
    assert result.skipped == {"crowd": 2}
    assert done == [(2, 5), (4, 5), (5, 5)]
    assert runner.calls == [2, 2, 1]
    for person, pose in zip(dataset.people, result.predictions, strict=True):  # the data set's order
        assert abs(pose[:, :2] - person.keypoints).max() < 3


def test_mistakes_count(dataset: PoseDataset) -> None:
    wrong = dataset.people[3].keypoints.copy()
    wrong[2] += 100
    people = [*dataset.people[:3], dataclasses.replace(dataset.people[3], keypoints=wrong), dataset.people[4]]
    result = evaluate(DotRunner(), dataclasses.replace(dataset, people=people))
    assert result.per_joint["left_wrist"] == 80.0
    assert result.value == pytest.approx(100 * 14 / 15)


def test_people_without_a_torso_are_reported(dataset: PoseDataset) -> None:
    people = [dataclasses.replace(p, visible=np.array([True, i > 0, True])) for i, p in enumerate(dataset.people)]
    result = evaluate(DotRunner(), dataclasses.replace(dataset, people=people))
    assert result.skipped == {"crowd": 2, "no reference length": 1}
    assert result.people == 5
    everyone = [dataclasses.replace(p, visible=np.array([True, False, True])) for p in dataset.people]
    values = evaluate(DotRunner(), dataclasses.replace(dataset, people=everyone)).to_dict()
    assert values["value"] is None
    assert values["per_joint"]["left_hip"] is None
    json.dumps(values, allow_nan=False)


def test_limit(dataset: PoseDataset) -> None:
    result = evaluate(DotRunner(), dataset, limit=3)
    assert (result.people, len(result.predictions)) == (3, 3)
    assert not math.isnan(result.value)
    for arguments in ({"limit": 0}, {"batch": 0}):
        with pytest.raises(UserError, match="1 or more"):
            evaluate(DotRunner(), dataset, **arguments)


def test_joints_are_matched_by_name(dataset: PoseDataset) -> None:
    """Another order, one joint that the model lacks, one that the data set lacks; the length is the truth's."""
    other = KeypointSet("other", ("left_hip", "nose", "right_shoulder"))
    nose = np.full(2, 5.0, np.float32)
    people = [
        dataclasses.replace(p, keypoints=np.stack([p.keypoints[1], nose, p.keypoints[0]])) for p in dataset.people
    ]
    result = evaluate(DotRunner(), dataclasses.replace(dataset, keypoints=other, people=people))
    assert result.joints.names == ("left_hip", "right_shoulder")
    assert (result.joints.model_only, result.joints.dataset_only) == (("left_wrist",), ("nose",))
    assert (result.value, list(result.per_joint)) == (100.0, ["left_hip", "right_shoulder"])
    assert result.predictions.shape == (5, 2, 3)
    assert result.results.keypoints.shape == (5, 3, 3)
    assert (result.results.keypoints[:, 1] == 0).all()
    assert result.to_dict()["joints"]["compared"] == ["left_hip", "right_shoulder"]


def test_at_least_one_joint_must_be_common(dataset: PoseDataset) -> None:
    other = KeypointSet("other", ("nose", "left_eye", "right_eye"))
    with pytest.raises(UserError, match=r"no name in common"):
        evaluate(DotRunner(), dataclasses.replace(dataset, keypoints=other))


def test_unreadable_image_is_named(dataset: PoseDataset) -> None:
    path = dataset.people[1].image_path
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(UserError, match=r"b\.png"):
        evaluate(DotRunner(), dataset)


def test_real_runner_end_to_end(shared_data: Path, tiny_checkpoint: Path, tiny_onnx: Path) -> None:
    """Random weights score badly, but two runtimes of one network score the same."""
    from bihrnet_edge.runtimes.registry import open_runner

    folder = shared_data / "lspet"
    data = load_annotations(folder / "person_keypoints_val.json", folder / "images")
    results = []
    for model in (tiny_checkpoint, tiny_onnx):
        with open_runner(str(model)) as runner:
            results.append(evaluate(runner, data, limit=20))
    assert results[0].value == pytest.approx(results[1].value)
    np.testing.assert_allclose(results[0].predictions, results[1].predictions, rtol=1e-3, atol=1e-3)


def coco_like(dataset: PoseDataset, names: tuple[str, ...] = BODY.keypoints) -> PoseDataset:
    """The same people as COCO's annotations, the first three of them each in an image of its own."""
    people = [
        dataclasses.replace(p, area=p.box[2] * p.box[3], image_id=10 + min(i, 3)) for i, p in enumerate(dataset.people)
    ]
    builder = TruthBuilder(3)
    for person in people:
        points = np.concatenate([person.keypoints, np.full((3, 1), 2)], axis=1).astype(np.float64)
        builder.add(person.image_id, points, np.array(person.box), person.area, crowd=False, malformed=False)
    images = {p.image_id: p.image_path for p in people}
    keypoints = KeypointSet("three", names)
    return dataclasses.replace(dataset, keypoints=keypoints, people=people, images=images, truth=builder.build(images))


def detections(dataset: PoseDataset, scores: list[float]) -> Detections:
    people = [
        Detection(p.image_path, p.image_id, p.box, score) for p, score in zip(dataset.people, scores, strict=True)
    ]
    return Detections(people, {"not a person": 1}, {"not a person": ("detection 9",)})


def test_oks_of_a_perfect_network(dataset: PoseDataset) -> None:
    """People 3 and 4 share an image and nearly all of their place: OKS-NMS takes one for the other's double."""
    result = evaluate(DotRunner(), coco_like(dataset))
    assert result.oks is not None
    assert result.no_oks is None
    assert (result.oks.people, result.oks.images, result.oks.predictions) == (5, 4, 4 + (result.suppressed == 0))
    assert result.oks.ap50 > 75
    assert len(result.results) == 5 - result.suppressed
    assert result.to_dict()["oks"]["ap50"] == result.oks.ap50
    json.dumps(result.to_dict(), allow_nan=False)
    # A limit that cuts an image in two leaves that image out.
    assert (cut := evaluate(DotRunner(), coco_like(dataset), limit=4).oks) is not None
    assert (cut.images, cut.people) == (3, 3)
    assert cut.ap == pytest.approx(100)
    everyone_there = dataclasses.replace(p := coco_like(dataset), people=[q for q in p.people if q.image_id == 13])
    assert evaluate(DotRunner(), everyone_there, limit=1).oks is None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda d: d, None),
        (lambda d: dataclasses.replace(d, truth=None), "not in COCO's form"),
        (lambda d: dataclasses.replace(d, truth=dataclasses.replace(d.truth, areas=d.truth.areas * np.nan)), "area"),
    ],
)
def test_why_there_is_no_oks(dataset: PoseDataset, change: Callable[[PoseDataset], PoseDataset], reason: str) -> None:
    data = change(coco_like(dataset))
    result = evaluate(DotRunner(), data)
    assert (result.oks is None) == (reason is not None)
    assert reason is None or reason in str(result.no_oks)
    if reason is not None:
        with pytest.raises(UserError, match=reason):
            evaluate(DotRunner(), data, boxes=detections(data, [1.0] * 5))


def test_joints_without_a_sigma_have_no_oks(dataset: PoseDataset) -> None:
    runner = DotRunner()
    names = ("right_shoulder", "left_hip", "neck")
    runner.metadata = dataclasses.replace(runner.metadata, keypoints=KeypointSet("n", names))
    result = evaluate(runner, coco_like(dataset, names))
    assert result.oks is None
    assert "neck" in str(result.no_oks)


def test_detector_boxes_are_rescored_and_suppressed(dataset: PoseDataset) -> None:
    data = coco_like(dataset)
    found = detections(data, [0.9, 0.5, 0.8, 0.7, 0.6])
    double = dataclasses.replace(found.people[0], score=0.3)
    found = dataclasses.replace(found, people=[*found.people, double])
    result = evaluate(DotRunner(), data, boxes=found)
    assert (result.metric, result.people, result.per_joint, result.pckh) == ("OKS AP", 6, {}, ())
    assert result.oks is not None
    assert result.value == result.oks.ap
    assert result.suppressed >= 1
    assert result.skipped == {"crowd": 2, "detection: not a person": 1}
    assert result.examples["detection: not a person"] == ("detection 9",)
    first = result.results.scores[result.results.image_ids == 10]
    assert first == pytest.approx([0.9 * result.predictions[0, :, 2].mean()])
    assert result.to_dict()["boxes"] == "detector"


def test_mpii_has_its_table(dataset: PoseDataset) -> None:
    """Three of MPII's sixteen joints are predicted; the head, which is not, still gives the length."""
    places = [MPII.keypoints.index(name) for name in BODY.keypoints]
    people = []
    for person in dataset.people:
        points, visible = np.zeros((16, 2), np.float32), np.zeros(16, bool)
        points[places], visible[places] = person.keypoints, True
        people.append(dataclasses.replace(person, keypoints=points, visible=visible, head_size=8.0))
    people[0] = dataclasses.replace(people[0], head_size=None)
    result = evaluate(DotRunner(), dataclasses.replace(dataset, keypoints=MPII, people=people))
    assert (result.metric, result.value) == ("PCKh@0.5", 100.0)
    assert result.skipped["no reference length"] == 1
    assert [table.name for table in result.pckh] == ["PCKh@0.5", "PCKh@0.1"]
    assert result.pckh[0].mean == result.value
    assert [name for name, value in result.pckh[0].groups.items() if value == 100] == ["Shoulder", "Wrist", "Hip"]
    assert list(result.pckh[0].groups) == ["Shoulder", "Wrist", "Hip"]
    assert result.pckh[1].mean < 100  # 0.8 pixels, and a heatmap pixel is four


class BrokenRunner(DotRunner):
    def heatmaps(self) -> NDArray[np.float32]:
        output = super().heatmaps()
        output[:, 2] = np.nan
        return output


def test_heatmaps_that_are_not_finite_are_counted(dataset: PoseDataset) -> None:
    result = evaluate(BrokenRunner(), coco_like(dataset))
    assert result.notes == {"predicted joints that are NaN or infinite": 5}
    assert result.per_joint == {"right_shoulder": 100.0, "left_hip": 100.0, "left_wrist": 0.0}
    assert np.isfinite(result.results.scores).all()
    json.dumps(result.to_dict(), allow_nan=False)


@pytest.mark.parametrize("options", [{"workers": 2}, {"workers": 1, "batch": 3}])
def test_workers_change_no_figure(dataset: PoseDataset, options: dict[str, int]) -> None:
    one, other = evaluate(DotRunner(), coco_like(dataset)), evaluate(DotRunner(), coco_like(dataset), **options)
    np.testing.assert_array_equal(one.predictions, other.predictions)
    assert one.to_dict()["oks"] == other.to_dict()["oks"]
    assert one.value == other.value


def test_flip_test_and_decoding_are_passed_on(dataset: PoseDataset) -> None:
    runner = DotRunner()
    plain = evaluate(runner, dataset)
    runner.calls.clear()
    flipped = evaluate(runner, dataset, flip_test=True, decoding="dark")
    assert len(runner.calls) == 2
    assert (flipped.flip_test, flipped.decoding) == (True, "dark")
    assert abs(flipped.predictions - plain.predictions).max() > 0.1
    with pytest.raises(UserError, match="no decoding"):
        evaluate(runner, dataset, decoding="other")  # type: ignore[arg-type]


def test_resume_refuses_another_model_and_other_people(dataset: PoseDataset, tmp_path: Path) -> None:
    file = tmp_path / "run" / "partial.npz"
    one = evaluate(DotRunner(), dataset, resume=file, model_sha256="a")
    runner = DotRunner()
    again = evaluate(runner, dataset, resume=file, model_sha256="a")
    assert runner.calls == []
    assert again.value == one.value
    for options, what in (
        ({"model_sha256": "b"}, "model"),
        ({"model_sha256": "a", "limit": 3}, "set of people"),
        ({"model_sha256": "a", "flip_test": True}, "--flip-test"),
        ({"model_sha256": "a", "decoding": "dark"}, "--decoding"),
    ):
        with pytest.raises(UserError, match=f"another {what}"):
            evaluate(DotRunner(), dataset, resume=file, **options)  # type: ignore[arg-type]


class NoisyTruth(Runner):
    """Heatmaps of each person's annotated joints, a heatmap pixel off at random, in the order in which they come."""

    name, batch = "truth", 1

    def __init__(self, people: list[Person]) -> None:
        self.metadata = PoseMetadata("truth", 256, 192, COCO)
        self.coming, self.rng = iter([people[index] for index in reading_order(people)]), np.random.default_rng(0)

    def prepare(self, images: NDArray[np.float32]) -> None:
        pass

    def invoke(self) -> None:
        person = next(self.coming)
        points = box_to_crop(person.box, 192 / 256).to_input(person.keypoints, (64, 48))
        off = self.rng.normal(0, 1, (17, 2))
        self.output = encode((points + off)[None], 64, 48, 2.0) * np.float32(self.rng.uniform(0.3, 1))

    def heatmaps(self) -> NDArray[np.float32]:
        return self.output


def test_saved_predictions_score_the_same_by_cocos_own_evaluation(
    shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Independent: pycocotools reads the annotations and the results file by itself; all ten figures to 1e-6."""
    coco, evaluation = pytest.importorskip("pycocotools.coco"), pytest.importorskip("pycocotools.cocoeval")
    folder = shared_data / "coco_mini"
    annotations = folder / "annotations" / "person_keypoints_val2017.json"
    data = load_annotations(annotations, folder / "val2017")
    result = evaluate(NoisyTruth(data.people), data, workers=2)
    write_results(tmp_path / "results.json", result.results)
    truth = coco.COCO(str(annotations))
    own = evaluation.COCOeval(truth, truth.loadRes(str(tmp_path / "results.json")), "keypoints")
    own.evaluate()
    own.accumulate()
    own.summarize()
    assert result.oks is not None
    names = ["ap", "ap50", "ap75", "apm", "apl", "ar", "ar50", "ar75", "arm", "arl"]
    figures = [getattr(result.oks, name) for name in names]
    assert figures == pytest.approx((100 * own.stats).tolist(), abs=1e-6)
    assert 60 < result.oks.ap < 90
