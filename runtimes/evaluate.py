"""Accuracy of a runner on an annotated data set."""

from __future__ import annotations

import importlib.util
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bihrnet_edge.data.dataset import PoseDataset
from bihrnet_edge.data.detections import Detections
from bihrnet_edge.data.results import KeypointResults
from bihrnet_edge.errors import UserError
from bihrnet_edge.metrics.nms import oks_nms_by_image, rescore
from bihrnet_edge.metrics.oks import COCO_SIGMAS, INSTALL, OksResult, evaluate_oks
from bihrnet_edge.metrics.pck import metric_for
from bihrnet_edge.metrics.pckh import PckhResult, pckh
from bihrnet_edge.pose.crop import box_to_crop
from bihrnet_edge.pose.heatmaps import Decoding
from bihrnet_edge.pose.keypoints import COCO, MPII
from bihrnet_edge.pose.matching import CommonJoints, common_joints
from bihrnet_edge.pose.metadata import PoseMetadata
from bihrnet_edge.runtimes.base import Runner
from bihrnet_edge.runtimes.crops import Boxed
from bihrnet_edge.runtimes.partial import PartialPredictions, fingerprint
from bihrnet_edge.runtimes.predictions import predict_people

_NO_REFERENCE = "no reference length"
_NOT_FINITE = "predicted joints that are NaN or infinite"
#: Thresholds of MPII's table, in head sizes.
_PCKH = (0.5, 0.1)


@dataclass(frozen=True, eq=False)
class EvalResult:
    """Outcome of :func:`evaluate`.

    Attributes:
        metric: e.g. ``PCK@0.2``; ``OKS AP`` for a detector's boxes.
        value: per cent.
        per_joint: per cent by joint name; NaN where a joint was never labelled; empty for a detector's boxes.
        joints: which joints were compared, and which the model or the data set lacks.
        people: people, or boxes, that the network was run on.
        skipped: what does not count towards ``value``, by reason: annotations and boxes that the readers left out,
            and people without a reference length.
        notes: what is odd but was kept, by what is odd.
        examples: the first few annotations behind reasons of ``skipped`` and ``notes``.
        predictions: float32 ``(people, C, 3)``, x, y in image pixels and score, in the data set's order of people
            and of joints.
        results: the same as COCO's results have it, with all joints of the data set (0, 0, 0 where not compared),
            rescored; where OKS is defined, without what OKS-NMS suppressed.
        seconds: wall-clock time of it all.
        oks: COCO's figures, where the truth is COCO's and each compared joint has a sigma, else None.
        no_oks: why ``oks`` is None; None where it is not, or where a limit leaves no image whole.
        pckh: MPII's table at 0.5 and at 0.1, where the joints are MPII's.
        suppressed: predictions that OKS-NMS removed from ``results``.
        detector_boxes: whether the boxes were a detector's.
        flip_test, decoding: as asked for.
    """

    metric: str
    value: float
    per_joint: dict[str, float]
    joints: CommonJoints
    people: int
    skipped: dict[str, int]
    notes: dict[str, int]
    examples: dict[str, tuple[str, ...]]
    predictions: NDArray[np.float32]
    results: KeypointResults
    seconds: float
    oks: OksResult | None = None
    no_oks: str | None = None
    pckh: tuple[PckhResult, ...] = ()
    suppressed: int = 0
    detector_boxes: bool = False
    flip_test: bool = False
    decoding: Decoding = "quarter"

    def to_dict(self) -> dict[str, Any]:
        """JSON-serialisable, without the predictions; NaN becomes None."""

        def plain(value: float) -> float | None:
            return None if np.isnan(value) else value

        return {
            "metric": self.metric,
            "value": plain(self.value),
            "per_joint": {name: plain(value) for name, value in self.per_joint.items()},
            "joints": {
                "compared": list(self.joints.names),
                "model_only": list(self.joints.model_only),
                "dataset_only": list(self.joints.dataset_only),
            },
            "people": self.people,
            "skipped": self.skipped,
            "notes": self.notes,
            "examples": {reason: list(names) for reason, names in self.examples.items()},
            "oks": None if self.oks is None else self.oks.to_dict(),
            "no_oks": self.no_oks,
            "pckh": [table.to_dict() for table in self.pckh],
            "suppressed": self.suppressed,
            "boxes": "detector" if self.detector_boxes else "ground truth",
            "flip_test": self.flip_test,
            "decoding": self.decoding,
            "seconds": self.seconds,
        }


def evaluate(
    runner: Runner,
    dataset: PoseDataset,
    limit: int | None = None,
    batch: int = 8,
    progress: Callable[[int, int], None] | None = None,
    *,
    flip_test: bool = False,
    decoding: Decoding = "quarter",
    workers: int = 0,
    boxes: Detections | None = None,
    resume: Path | None = None,
    model_sha256: str = "",
) -> EvalResult:
    """Run a network on people's boxes and score the joints that model and data set both name.

    Args:
        runner: the network.
        dataset: the truth. PCK and PCKh take each person's length from all of its joints.
        limit: use only the first so many people, or boxes. OKS then counts the images in which nobody is left out.
        batch: people per call of the runner.
        progress: called with the people done and the people in all.
        flip_test, decoding: as in :class:`~bihrnet_edge.runtimes.estimator.PoseEstimator`.
        workers: threads that read, crop and decode while the network runs; 0 does it in turns.
        boxes: a detector's, to be used instead of the annotated ones. Scored by OKS only: nobody says whose they are.
        resume: file of predictions that this run takes up and keeps.
        model_sha256: of the model's file; ``resume`` refuses another.

    Raises:
        UserError: no joint is common, OKS is not defined for ``boxes``, an image cannot be read, or an argument is
            out of range.
    """
    if (limit is not None and limit < 1) or batch < 1:
        raise UserError(f"evaluate: limit {limit} and batch {batch} must be 1 or more.")
    joints = common_joints(runner.metadata.keypoints, dataset.keypoints)
    obstacle = _oks_obstacle(dataset, joints)
    if boxes is not None and obstacle is not None:
        raise UserError(f"a detector's boxes are scored by OKS, but {obstacle}, or evaluate the annotated boxes.")
    started = time.perf_counter()
    everyone: Sequence[Boxed] = dataset.people if boxes is None else boxes.people
    chosen = everyone[:limit]
    partial = None
    if resume is not None:
        key = {"model": model_sha256, "runtime": runner.name, "set of people": fingerprint(chosen)}
        partial = PartialPredictions(resume, key | {"--flip-test": str(flip_test), "--decoding": decoding})
    found = predict_people(
        runner, chosen, flip_test=flip_test, decoding=decoding, batch=batch, workers=workers, partial=partial,
        progress=progress,
    )[:, joints.model_index]  # fmt: skip

    skipped, notes = Counter(dataset.skipped), Counter(dataset.notes)
    examples = dict(dataset.examples)
    if boxes is not None:
        skipped.update({f"detection: {reason}": count for reason, count in boxes.skipped.items()})
        examples.update({f"detection: {reason}": names for reason, names in boxes.examples.items()})
    if broken := int((~np.isfinite(found)).any(axis=2).sum()):
        notes[_NOT_FINITE] = broken

    scores = rescore(np.array([getattr(box, "score", 1.0) for box in chosen]), found[..., 2])
    results = KeypointResults(np.array([box.image_id for box in chosen], np.int64), found, scores)
    count, oks = len(results), None
    if obstacle is None:
        results = _suppressed(results, chosen, runner.metadata, joints)
        oks = _oks(dataset, results, joints, None if len(chosen) == len(everyone) else everyone, len(chosen))
    suppressed, results = count - len(results), _with_all_joints(results, joints, len(dataset.keypoints))

    per_joint: dict[str, float] = {}
    tables: tuple[PckhResult, ...] = ()
    if boxes is None:
        metric, value, per_joint, without, tables = _pck(dataset, found, joints)
        if without:
            skipped[_NO_REFERENCE] += without
    else:
        metric, value = "OKS AP", float("nan") if oks is None else oks.ap
    return EvalResult(
        metric,
        value,
        per_joint,
        joints,
        len(chosen),
        dict(skipped),
        dict(notes),
        examples,
        found,
        results,
        time.perf_counter() - started,
        oks,
        obstacle,
        tables,
        suppressed,
        boxes is not None,
        flip_test,
        decoding,
    )


def _pck(
    dataset: PoseDataset, found: NDArray[np.float32], joints: CommonJoints
) -> tuple[str, float, dict[str, float], int, tuple[PckhResult, ...]]:
    """Name and value of the customary metric, by joint, people without a length, and MPII's table."""
    people = dataset.people[: len(found)]
    metric = metric_for(dataset.keypoints)
    result = metric(found[..., :2], people, joints.dataset_index)
    tables: tuple[PckhResult, ...] = ()
    if dataset.keypoints.keypoints == MPII.keypoints:
        truth = np.stack([person.keypoints for person in people])[:, joints.dataset_index]
        visible = np.stack([person.visible for person in people])[:, joints.dataset_index]
        names, lengths = joints.keypoint_set(dataset.keypoints), metric.lengths(people)
        tables = tuple(pckh(found[..., :2], truth, visible, lengths, threshold, names) for threshold in _PCKH)
    per_joint = dict(zip(joints.names, result.per_joint.tolist(), strict=True))
    return metric.name, result.mean, per_joint, result.skipped_people, tables


def _oks_obstacle(dataset: PoseDataset, joints: CommonJoints) -> str | None:
    """Why OKS cannot be computed, None where it can."""
    if dataset.truth is None:
        return f"{dataset.name} is not in COCO's form; give COCO's annotations"
    unknown = [name for name in joints.names if name not in COCO.keypoints]
    if unknown:
        return f"COCO defines no sigma for {', '.join(unknown)}; give data with COCO's joints"
    if np.isnan(dataset.truth.areas).any():
        return f"{int(np.isnan(dataset.truth.areas).sum())} annotations have no 'area'; add the areas"
    if importlib.util.find_spec("faster_coco_eval") is None:  # a device that only runs artifacts need not have it
        return f"faster-coco-eval is not installed; {INSTALL}"
    return None


def _sigmas(joints: CommonJoints) -> NDArray[np.float64]:
    return COCO_SIGMAS[[COCO.keypoints.index(name) for name in joints.names]]


def _suppressed(
    results: KeypointResults, chosen: Sequence[Boxed], metadata: PoseMetadata, joints: CommonJoints
) -> KeypointResults:
    """What OKS-NMS leaves, as HRNet does whatever the boxes are."""
    aspect = metadata.input_width / metadata.input_height
    crops = [box_to_crop(box.box, aspect, metadata.box_padding) for box in chosen]
    areas = np.array([crop.width * crop.height for crop in crops])
    kept = oks_nms_by_image(
        results.image_ids, results.keypoints[..., :2], results.scores, areas, sigmas=_sigmas(joints)
    )
    return results.take(kept)


def _oks(
    dataset: PoseDataset,
    results: KeypointResults,
    joints: CommonJoints,
    limited: Sequence[Boxed] | None,
    count: int,
) -> OksResult | None:
    """COCO's figures; None where a limit leaves no image whole."""
    assert dataset.truth is not None
    whole = None
    if limited is not None:
        whole = {box.image_id for box in limited[:count]} - {box.image_id for box in limited[count:]}
        if not whole:
            return None
        results = results.take(np.isin(results.image_ids, list(whole)))
    truth = dataset.truth.of_joints(joints.dataset_index.tolist())
    return evaluate_oks(truth, results, whole, _sigmas(joints))


def _with_all_joints(results: KeypointResults, joints: CommonJoints, count: int) -> KeypointResults:
    """Results with the data set's joints; those with a score that is no number, which no file can hold, left out."""
    results = results.take(np.isfinite(results.scores))
    keypoints = np.zeros((len(results), count, 3), np.float32)
    keypoints[:, joints.dataset_index] = results.keypoints
    return replace(results, keypoints=keypoints)
