"""OKS and COCO's figures, against loops over the published protocol and against pycocotools."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bihrnet_edge.data.dataset import load_annotations
from bihrnet_edge.data.results import KeypointResults
from bihrnet_edge.data.truth import CocoTruth
from bihrnet_edge.errors import UserError
from bihrnet_edge.metrics.oks import COCO_SIGMAS, OksResult, evaluate_oks, oks

FIGURES = ("ap", "ap50", "ap75", "apm", "apl", "ar", "ar50", "ar75", "arm", "arl")
THRESHOLDS = np.linspace(0.5, 0.95, 10).tolist()
#: As published: some steps lie a rounding error above i / 100, and a recall of exactly i / 100 does not reach them.
RECALLS = np.linspace(0, 1, 101).tolist()
AREAS = {"all": (0.0, 1e10), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}


def figures(result: OksResult) -> list[float]:
    return [getattr(result, name) for name in FIGURES]


def scene(seed: int, images: int = 6) -> tuple[CocoTruth, KeypointResults]:
    """People of every kind that the protocol tells apart, and predictions good and bad, some on nobody."""
    rng = np.random.default_rng(seed)
    rows: list[tuple[Any, ...]] = []
    predicted: list[tuple[int, np.ndarray, float]] = []
    for image in range(1, images + 1):
        for _ in range(rng.integers(0, 5)):
            side = rng.choice([20.0, 60.0, 200.0])
            corner = rng.uniform(0, 300, 2)
            joints = np.concatenate([corner + rng.uniform(0, side, (17, 2)), rng.integers(0, 3, (17, 1))], axis=1)
            joints[joints[:, 2] == 0] = 0
            if rng.random() < 0.2:
                joints[:] = 0
            crowd = bool(rng.random() < 0.1)
            ignored = crowd or not (joints[:, 2] > 0).any()
            rows.append((image, joints, [*corner, side, side], 0.6 * side * side, crowd, ignored))
            for _ in range(rng.integers(0, 3)):
                pose = joints.copy()
                pose[:, :2] += rng.normal(0, side * rng.choice([0.0, 0.01, 0.05, 0.1]), (17, 2))
                predicted.append((image, pose, float(rng.choice([0.2, 0.5, 0.8, rng.random()]))))
        for _ in range(rng.integers(0, 3)):
            predicted.append((image, np.concatenate([rng.uniform(0, 300, (17, 2)), np.ones((17, 1))], 1), 0.5))
    truth = CocoTruth(
        np.arange(1, images + 1),
        np.array([row[0] for row in rows], np.int64),
        np.array([row[1] for row in rows]).reshape(-1, 17, 3),
        np.array([row[2] for row in rows]).reshape(-1, 4),
        np.array([row[3] for row in rows], np.float64),
        np.array([row[4] for row in rows], bool),
        np.array([row[5] for row in rows], bool),
    )
    results = KeypointResults(
        np.array([image for image, _, _ in predicted], np.int64),
        np.array([pose for _, pose, _ in predicted]).reshape(-1, 17, 3),
        np.array([score for _, _, score in predicted], np.float64),
    )
    return truth, results


def loop_oks(pose: np.ndarray, truth: CocoTruth, row: int) -> float:
    """Joint by joint; of people without labels, the distance to twice their box."""
    x, y, width, height = truth.boxes[row]
    joints = truth.keypoints[row]
    labelled = [k for k in range(17) if joints[k, 2] > 0]
    total = 0.0
    for k in labelled or range(17):
        px, py = pose[k, :2]
        if labelled:
            dx, dy = px - joints[k, 0], py - joints[k, 1]
        else:
            dx = max(0.0, (x - width) - px) + max(0.0, px - (x + 2 * width))
            dy = max(0.0, (y - height) - py) + max(0.0, py - (y + 2 * height))
        spread = 2 * COCO_SIGMAS[k]
        total += math.exp(-(dx * dx + dy * dy) / (2 * spread * spread * (truth.areas[row] + 2.3e-16)))
    return total / len(labelled or range(17))


def match_image(
    truth: CocoTruth,
    people: list[int],
    poses: list[int],
    similarity: dict[tuple[int, int], float],
    threshold: float,
    ignored: Callable[[int], bool],
) -> dict[int, int | None]:
    """Each prediction's person: greedy by score, those that count before those that are ignored."""
    taken: set[int] = set()
    found: dict[int, int | None] = {}
    for pose in poses:
        best, which = min(threshold, 1 - 1e-10), None
        for wanted in (False, True):
            if which is not None:
                break
            for person in people:
                if ignored(person) != wanted or (person in taken and not truth.crowd[person]):
                    continue
                if similarity[pose, person] >= best:
                    best, which = similarity[pose, person], person
        found[pose] = which
        if which is not None:
            taken.add(which)
    return found


def by_loops(truth: CocoTruth, results: KeypointResults) -> list[float]:
    """COCO's figures from the protocol's text, one prediction after the other."""
    precision: dict[tuple[str, float], float] = {}
    recall: dict[tuple[str, float], float] = {}
    everyone = range(len(truth))
    similarity = {
        (pose, person): loop_oks(results.keypoints[pose], truth, person)
        for pose in range(len(results))
        for person in everyone
        if results.image_ids[pose] == truth.image_ids[person]
    }
    for kind, (low, high) in AREAS.items():

        def ignored(person: int, low: float = low, high: float = high) -> bool:
            return bool(truth.ignored[person] or not low <= truth.areas[person] <= high)

        total = sum(not ignored(person) for person in everyone)
        for threshold in THRESHOLDS:
            outcomes: list[tuple[float, bool]] = []
            for image in truth.images:
                people = [p for p in everyone if truth.image_ids[p] == image]
                poses = [p for p in range(len(results)) if results.image_ids[p] == image]
                poses = sorted(poses, key=lambda p: -results.scores[p])[:20]
                for pose, person in match_image(truth, people, poses, similarity, threshold, ignored).items():
                    span = np.ptp(results.keypoints[pose, :, :2], axis=0)
                    if (person is None and low <= span[0] * span[1] <= high) or (
                        person is not None and not ignored(person)
                    ):
                        outcomes.append((float(results.scores[pose]), person is not None))
            outcomes.sort(key=lambda outcome: -outcome[0])
            right, curve = 0, []
            for count, (_, correct) in enumerate(outcomes, start=1):
                right += correct
                curve.append((right / max(total, 1), right / count))
            steps = [max((p for r, p in curve if r >= step), default=0.0) for step in RECALLS]
            precision[kind, threshold] = sum(steps) / 101 if total else math.nan
            recall[kind, threshold] = right / total if total else math.nan

    def mean(table: dict[tuple[str, float], float], kind: str) -> float:
        return 10 * sum(table[kind, threshold] for threshold in THRESHOLDS)

    return [
        figure
        for table in (precision, recall)
        for figure in (
            mean(table, "all"), 100 * table["all", THRESHOLDS[0]], 100 * table["all", THRESHOLDS[5]],
            mean(table, "medium"), mean(table, "large"),
        )
    ]  # fmt: skip


def by_pycocotools(truth: CocoTruth, results: KeypointResults) -> list[float]:
    coco, evaluator = pytest.importorskip("pycocotools.coco"), pytest.importorskip("pycocotools.cocoeval")
    annotations = [
        {
            "id": row + 1, "image_id": int(truth.image_ids[row]), "category_id": 1, "area": float(truth.areas[row]),
            "iscrowd": int(truth.crowd[row]), "bbox": truth.boxes[row].tolist(),
            "keypoints": truth.keypoints[row].ravel().tolist(),
            "num_keypoints": int((truth.keypoints[row, :, 2] > 0).sum()),
        }
        for row in range(len(truth))
    ]  # fmt: skip
    predictions = [
        {"image_id": int(image), "category_id": 1, "keypoints": points.ravel().tolist(), "score": float(score)}
        for image, points, score in zip(results.image_ids, results.keypoints, results.scores, strict=True)
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        document = coco.COCO()
        document.dataset = {
            "images": [{"id": int(image)} for image in truth.images],
            "categories": [{"id": 1, "name": "person"}],
            "annotations": annotations,
        }
        document.createIndex()
        evaluation = evaluator.COCOeval(document, document.loadRes(predictions), "keypoints")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [100 * value if value >= 0 else math.nan for value in evaluation.stats]


@given(st.integers(0, 2**32))
@settings(max_examples=15, deadline=None)
def test_equals_the_protocol_one_by_one(seed: int) -> None:
    truth, results = scene(seed)
    np.testing.assert_allclose(figures(evaluate_oks(truth, results)), by_loops(truth, results), atol=1e-6, rtol=0)


@given(st.integers(0, 2**32))
@settings(max_examples=15, deadline=None)
def test_equals_pycocotools(seed: int) -> None:
    truth, results = scene(seed, images=20)
    np.testing.assert_allclose(figures(evaluate_oks(truth, results)), by_pycocotools(truth, results), atol=1e-6, rtol=0)


def as_results(truth: CocoTruth) -> KeypointResults:
    return KeypointResults(truth.image_ids, truth.keypoints, np.ones(len(truth)))


@given(st.integers(0, 2**32))
@settings(max_examples=20, deadline=None)
def test_the_truth_scores_100(seed: int) -> None:
    truth, _ = scene(seed)
    result = evaluate_oks(truth, as_results(truth).take(~truth.ignored))
    assert all(math.isnan(figure) or figure == pytest.approx(100, abs=1e-9) for figure in figures(result))
    assert (result.people, result.ignored) == ((~truth.ignored).sum(), truth.ignored.sum())


def one_person(area: float) -> CocoTruth:
    joints = np.concatenate([np.random.default_rng(0).uniform(0, 30, (17, 2)), np.full((17, 1), 2.0)], axis=1)
    no = np.zeros(1, bool)
    return CocoTruth(np.array([3]), np.array([3]), joints[None], np.array([[0.0, 0, 30, 30]]), np.array([area]), no, no)


@pytest.mark.parametrize("area", [64.0, 400.0, 1500.0, 10_000.0])
def test_a_shift_of_one_pixel(area: float) -> None:
    truth = one_person(area)
    moved = as_results(truth)
    moved.keypoints[..., 0] += 1
    similarity = sum(math.exp(-1 / (2 * (2 * sigma) ** 2 * area)) for sigma in COCO_SIGMAS) / 17
    expected = [100.0 * (similarity >= threshold) for threshold in THRESHOLDS]
    result = evaluate_oks(one_person(area), moved)
    assert result.ap == pytest.approx(sum(expected) / 10)
    assert (result.ap50, result.ap75) == pytest.approx((expected[0], expected[5]))
    assert result.ar == pytest.approx(sum(expected) / 10)
    medium = 32**2 <= area <= 96**2
    assert math.isnan(result.apm) != medium


def test_sigmas_may_be_others() -> None:
    # (2 sigma)^2 = 0.01, so that one pixel at an area of 100 leaves exp(-1/2) = 0.607: three thresholds of ten.
    moved = as_results(one_person(100.0))
    moved.keypoints[..., 1] += 1
    assert evaluate_oks(one_person(100.0), moved, sigmas=np.full(17, 0.05)).ap == pytest.approx(30)


def test_crowds_and_people_without_labels_are_neither_right_nor_wrong() -> None:
    truth, results = one_person(5000.0), as_results(one_person(5000.0))
    for change in ({"crowd": np.ones(1, bool), "ignored": np.ones(1, bool)}, {"ignored": np.ones(1, bool)}):
        ignored = dataclasses.replace(truth, **change)
        assert math.isnan(evaluate_oks(ignored, results).ap)
    unlabelled = dataclasses.replace(truth, keypoints=np.zeros((1, 17, 3)), ignored=np.ones(1, bool))
    two = CocoTruth(
        truth.images,
        *(
            np.concatenate([getattr(part, name) for part in (truth, unlabelled)])
            for name in ("image_ids", "keypoints", "boxes", "areas", "crowd", "ignored")
        ),
    )
    both = KeypointResults(np.array([3, 3]), np.repeat(results.keypoints, 2, axis=0), np.array([0.9, 0.5]))
    assert evaluate_oks(two, both).ap == pytest.approx(100)  # the second falls on who has no labels


def test_a_missing_joint_is_not_credited() -> None:
    truth = one_person(5000.0)
    for joints, expected in (([], 100.0), ([0], 90.0), (list(range(17)), 0.0)):
        results = as_results(one_person(5000.0))
        results.keypoints[:, joints, :2] = np.nan  # 16 of 17 joints leave an OKS of 0.941: nine thresholds of ten
        assert evaluate_oks(truth, results).ap == pytest.approx(expected)


def test_counts_predictions_that_it_leaves_out() -> None:
    truth, one = one_person(5000.0), as_results(one_person(5000.0)).keypoints
    results = KeypointResults(np.array([3, 3, 9]), np.repeat(one, 3, axis=0), np.array([0.5, np.nan, 0.9]))
    result = evaluate_oks(truth, results)
    assert result.skipped == {
        "prediction with NaN or infinity as score": 1,
        "prediction outside the evaluated images": 1,
    }
    assert (result.ap, result.predictions) == (pytest.approx(100), 1)


def test_evaluates_the_images_it_is_told() -> None:
    truth, results = scene(1)
    chosen = [2, 5, 77]
    part = truth.of_images(chosen)
    assert set(part.images.tolist()) == {2, 5}
    inside = results.take(np.isin(results.image_ids, chosen))
    assert figures(evaluate_oks(truth, results, chosen)) == pytest.approx(
        figures(evaluate_oks(part, inside)), nan_ok=True
    )


def test_nothing_predicted_scores_0() -> None:
    nobody = KeypointResults(np.empty(0, np.int64), np.empty((0, 17, 3)), np.empty(0))
    result = evaluate_oks(one_person(5000.0), nobody)
    assert (result.ap, result.ar, result.predictions) == (0, 0, 0)
    assert result.to_dict()["apl"] is None


def test_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    evaluate_oks(*scene(0))
    assert capfd.readouterr() == ("", "")


def test_says_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    truth = one_person(5000.0)
    with pytest.raises(UserError, match="the predictions have 14"):
        evaluate_oks(truth, KeypointResults(np.array([3]), np.zeros((1, 14, 3)), np.ones(1)))
    with pytest.raises(UserError, match="no image is left"):
        evaluate_oks(truth, as_results(truth), [1])
    with pytest.raises(UserError, match="1 annotations have no 'area'"):
        evaluate_oks(dataclasses.replace(truth, areas=np.array([np.nan])), as_results(truth))
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    with pytest.raises(UserError, match=r"needs faster_coco_eval, .* \"bihrnet-edge\[eval\]\""):
        evaluate_oks(truth, as_results(truth))


@given(st.integers(0, 2**32))
def test_oks_equals_the_loop(seed: int) -> None:
    truth, results = scene(seed, images=2)
    for row in np.flatnonzero((truth.keypoints[..., 2] > 0).any(axis=1)):
        got = oks(
            results.keypoints[..., :2], truth.keypoints[row, :, :2], truth.areas[row],
            visible=truth.keypoints[row, :, 2] > 0,
        )  # fmt: skip
        np.testing.assert_allclose(got, [loop_oks(pose, truth, row) for pose in results.keypoints], rtol=1e-9)


def test_oks_of_nothing_labelled_is_0() -> None:
    points = np.zeros((2, 17, 2))
    assert oks(points, points, np.ones(2), visible=np.zeros((2, 17), bool)).tolist() == [0, 0]


def test_real_coco(shared_data: Path) -> None:
    folder = shared_data / "coco_mini"
    dataset = load_annotations(folder / "annotations" / "person_keypoints_val2017.json", folder / "val2017")
    assert dataset.truth is not None
    truth = dataset.truth
    labelled = KeypointResults(truth.image_ids, truth.keypoints, np.linspace(0, 1, len(truth))).take(~truth.ignored)
    result = evaluate_oks(truth, labelled)
    assert figures(result) == pytest.approx([100.0] * 10)
    assert (result.images, result.people, result.ignored) == (32, 68, 25)
    rng = np.random.default_rng(0)
    size = np.sqrt(truth.areas[~truth.ignored])[:, None, None]
    labelled.keypoints[..., :2] += rng.normal(0, 0.06, labelled.keypoints[..., :2].shape) * size
    noisy = evaluate_oks(truth, labelled)
    assert 20 < noisy.ap < 80
    np.testing.assert_allclose(figures(noisy), by_pycocotools(truth, labelled), atol=1e-6, rtol=0)
