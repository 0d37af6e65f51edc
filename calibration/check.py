"""A reference and its artifacts on the same people: what is lost, how sure that is, and where they differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bihrnet_edge.calibration.bootstrap import RESAMPLES, Interval
from bihrnet_edge.calibration.differences import keypoint_differences
from bihrnet_edge.calibration.html_report import ArtifactCheck, CheckReport, ModelFacts
from bihrnet_edge.calibration.report_pictures import WorstImage
from bihrnet_edge.calibration.verification import paired_drop
from bihrnet_edge.console import Step
from bihrnet_edge.data.dataset import PoseDataset
from bihrnet_edge.data.person import Person
from bihrnet_edge.errors import UserError
from bihrnet_edge.files import sha256
from bihrnet_edge.metrics.pck import metric_for
from bihrnet_edge.model.zoo import bundled_path
from bihrnet_edge.pose.crop import box_to_crop, read_image
from bihrnet_edge.pose.heatmaps import Decoding
from bihrnet_edge.pose.keypoints import KeypointSet
from bihrnet_edge.pose.matching import CommonJoints, common_joints
from bihrnet_edge.pose.metadata import PoseMetadata
from bihrnet_edge.runtimes.evaluate import EvalResult, evaluate
from bihrnet_edge.runtimes.registry import open_runner

_NO_REFERENCE = "no reference length"
#: Pictures in a report.
_WORST = 12


@dataclass(frozen=True, eq=False)
class CheckResult:
    """Outcome of :func:`check_models`.

    Attributes:
        metric: e.g. ``PCK@0.2``.
        keypoints: the joints that every model and the data set name, which were compared.
        left_out: joints that one of them lacks.
        dataset: the people.
        skipped: what does not count towards the metric, by reason.
        notes: what is odd but was kept.
        reference: the model that artifacts are compared with.
        artifacts: in the order given.
        oks_ap: COCO's AP of the reference and of each artifact, by name; empty where it is not defined.
        worst: where they differ most, at most one picture an image.
        max_drop: points of the metric that an artifact may lose.
    """

    metric: str
    keypoints: KeypointSet
    left_out: tuple[str, ...]
    dataset: PoseDataset
    skipped: dict[str, int]
    notes: dict[str, int]
    reference: ModelFacts
    artifacts: tuple[ArtifactCheck, ...]
    oks_ap: dict[str, float]
    worst: tuple[WorstImage, ...]
    max_drop: float

    @property
    def failure(self) -> str | None:
        """A sentence about the artifacts that lose too much, None where none does."""
        lost = [
            f"{check.facts.name} loses {check.drop.drop.value:.2f} points of {self.metric} "
            f"({describe(check.drop.drop, check.drop.confidence)}), more than {self.max_drop:g}"
            for check in self.artifacts
            if not check.passed
        ]
        return "; ".join(lost) + "." if lost else None

    def to_dict(self) -> dict[str, Any]:
        """JSON-serialisable but for NaN, which ``console.write_json`` makes null."""
        names = self.keypoints.keypoints
        return {
            "metric": self.metric,
            "set": self.dataset.name,
            "people": len(self.dataset),
            "joints": {"compared": list(names), "left_out": list(self.left_out)},
            "skipped": self.skipped,
            "notes": self.notes,
            "examples": {reason: list(found) for reason, found in self.dataset.examples.items()},
            "max_drop": self.max_drop,
            "reference": asdict(self.reference),
            "oks_ap": self.oks_ap,
            "artifacts": [
                {
                    **asdict(check.facts),
                    "passed": check.passed,
                    **_by_name(check.drop.to_dict(), names),
                    "keypoints": _by_name(check.differences.to_dict(), names),
                }
                for check in self.artifacts
            ],
        }

    def report(self, data: dict[str, str], subset: str | None = None) -> CheckReport:
        """As a document; ``data`` are facts about annotations and images, ``subset`` the manifest's name."""
        figures = {f"OKS AP of {name}": f"{value:.2f}" for name, value in self.oks_ap.items()}
        notes = {f"note: {reason}": str(count) for reason, count in self.notes.items()}
        return CheckReport(
            self.metric,
            self.keypoints,
            data | figures | notes,
            self.reference,
            self.artifacts,
            subset,
            self.left_out,
            {_named(reason, self.dataset): count for reason, count in self.skipped.items()},
            self.worst,
            self.max_drop,
            version("bihrnet-edge"),
        )


def describe(interval: Interval, confidence: float) -> str:
    """``95 % interval -0.10 to 0.20``."""
    return f"{100 * confidence:g} % interval {interval.low:.2f} to {interval.high:.2f}"


def check_models(
    reference: str,
    artifacts: Sequence[str],
    dataset: PoseDataset,
    *,
    max_drop: float = 1.0,
    flip_test: bool = False,
    decoding: Decoding = "quarter",
    batch: int = 8,
    workers: int = 0,
    threads: int = 1,
    preset: str | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
    worst: int = _WORST,
    step: Step,
) -> CheckResult:
    """Run a reference and its artifacts, one after another, on the same people, and compare them.

    Args:
        reference: a checkpoint, bundled name or artifact; ``preset`` is its architecture where it is bare.
        artifacts: one or more.
        dataset: the people.
        max_drop: points of the metric that an artifact may lose.
        flip_test, decoding, batch, workers: as in :func:`~bihrnet_edge.runtimes.evaluate.evaluate`.
        threads: of one inference.
        resamples, seed: of the interval.
        worst: how many images to show, over all artifacts.
        step: shows progress.

    Raises:
        UserError: a model or an image cannot be read, no joint is common to all, or nothing counts for the metric.
    """
    models = [reference, *artifacts]
    names = _names(models)
    found: list[tuple[EvalResult, PoseMetadata, ModelFacts]] = []
    for index, (model, name) in enumerate(zip(models, names, strict=True)):
        with step(f"run {name}") as advance:
            with open_runner(model, threads, preset=None if index else preset) as runner:
                result = evaluate(
                    runner, dataset, None, batch, advance, flip_test=flip_test, decoding=decoding, workers=workers
                )
                path = bundled_path(model) or Path(model)
                facts = ModelFacts(name, str(path), sha256(path), path.stat().st_size, runner.label)
                found.append((result, runner.metadata, facts))
    joints, left_out = _shared([metadata.keypoints for _, metadata, _ in found], dataset.keypoints)
    located = [
        result.predictions[:, [result.joints.names.index(name) for name in joints.names]] for result, *_ in found
    ]

    people, metric = dataset.people, metric_for(dataset.keypoints)
    lengths = metric.lengths(people)
    skipped = Counter(dataset.skipped)
    if without := int((~(np.isfinite(lengths) & (lengths > 0))).sum()):
        skipped[_NO_REFERENCE] += without
    pixels = _heatmap_pixels(people, found[0][1])
    checks = []
    for points, (_, _, facts) in zip(located[1:], found[1:], strict=True):
        pair = located[0][..., :2], points[..., :2]
        drop = paired_drop(*pair, people, metric, joints.dataset_index, resamples, seed)
        differences = keypoint_differences(*pair, lengths, pixels)
        checks.append(ArtifactCheck(facts, drop, differences, drop.drop.value <= max_drop))
    notes = Counter(dataset.notes)
    for result, _, facts in found:
        for reason in result.notes.keys() - dataset.notes.keys():
            notes[f"{reason}, {facts.name}"] = result.notes[reason]
    same = len({result.joints.names for result, *_ in found}) == 1
    return CheckResult(
        metric.name,
        joints.keypoint_set(dataset.keypoints),
        left_out,
        dataset,
        dict(skipped),
        dict(notes),
        found[0][2],
        tuple(checks),
        {facts.name: result.oks.ap for result, _, facts in found if same and result.oks is not None},
        _worst_images(people, located, checks, joints.names, worst),
        max_drop,
    )


def _names(models: Sequence[str]) -> list[str]:
    """What people know the models as: the file's name, or the path where two share one."""
    short = [Path(model).name for model in models]
    return [model if short.count(name) > 1 else name for model, name in zip(models, short, strict=True)]


def _shared(models: Sequence[KeypointSet], dataset: KeypointSet) -> tuple[CommonJoints, tuple[str, ...]]:
    """The joints that all models and the data set name, and those that one of them lacks."""
    names = tuple(name for name in models[0].keypoints if all(name in model.keypoints for model in models))
    if not names:
        raise UserError("reference and artifacts have no joint in common; give artifacts of one model.")
    joints = common_joints(KeypointSet(models[0].name, names), dataset)
    everything = dict.fromkeys(name for keypoints in (dataset, *models) for name in keypoints.keypoints)
    return joints, tuple(name for name in everything if name not in joints.names)


def _heatmap_pixels(people: Sequence[Person], metadata: PoseMetadata) -> NDArray[np.float64]:
    """Image pixels that a heatmap pixel of each person covers ``(P,)``."""
    aspect, width = metadata.input_width / metadata.input_height, metadata.input_width // metadata.heatmap_stride
    return np.array([box_to_crop(person.box, aspect, metadata.box_padding).width / width for person in people])


def _worst_images(
    people: Sequence[Person],
    located: Sequence[NDArray[np.float32]],
    checks: Sequence[ArtifactCheck],
    names: Sequence[str],
    count: int,
) -> tuple[WorstImage, ...]:
    """The people whose keypoints lie furthest apart for their size, one an image."""
    sizes = np.array([max(person.box[2:]) for person in people])
    table = [np.where(np.isfinite(c.differences.distances), c.differences.distances, 0.0) for c in checks]
    apart = np.stack([distances.max(axis=1) / sizes for distances in table])  # (artifacts, P)
    shown: list[WorstImage] = []
    seen: set[Path] = set()
    for flat in np.argsort(-apart, axis=None, kind="stable"):
        artifact, index = divmod(int(flat), len(people))
        person = people[index]
        if len(shown) >= count or apart[artifact, index] <= 0:
            break
        if person.image_path in seen:
            continue
        seen.add(person.image_path)
        joint = int(table[artifact][index].argmax())
        note = f"annotation {person.annotation_id}, {names[joint]} {table[artifact][index, joint]:.1f} px apart"
        pair = located[0][index][None], located[artifact + 1][index][None]
        image = read_image(person.image_path)
        shown.append(
            WorstImage(person.image_path.name, note, checks[artifact].facts.name, image, *pair, box=person.box)
        )
    return tuple(shown)


def _by_name(values: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Lists of a value a joint as mappings from joint names."""
    return {
        key: dict(zip(names, value, strict=True)) if key.endswith("per_joint") and len(value) == len(names) else value
        for key, value in values.items()
    }


def _named(reason: str, dataset: PoseDataset) -> str:
    """A reason with the first annotations behind it."""
    names = dataset.examples.get(reason, ())
    more = ", …" if dataset.skipped.get(reason, 0) > len(names) else ""
    return f"{reason} ({', '.join(names)}{more})" if names else reason
