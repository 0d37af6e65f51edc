"""The report of a check as one HTML file that needs nothing else: no scripts, no fonts, no network.

Every text that comes from outside (names of files, models, joints) is escaped where it enters the document.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bihrnet_edge.calibration.bootstrap import Interval, PairedDrop
from bihrnet_edge.calibration.differences import KeypointDifferences
from bihrnet_edge.calibration.report_pictures import WorstImage, histogram, picture_pair
from bihrnet_edge.files import make_folder, write_text
from bihrnet_edge.html import Markup, document, escaped, figure, joined, table, tag
from bihrnet_edge.pose.keypoints import KeypointSet


@dataclass(frozen=True)
class ModelFacts:
    """What the report says about a model or artifact.

    Attributes:
        name: as people know it.
        path: the file.
        sha256: hex digest of the file.
        size: of the file in bytes.
        runtime: what ran it, e.g. ``litert + delegate (avx2)``.
    """

    name: str
    path: str
    sha256: str
    size: int
    runtime: str


@dataclass(frozen=True, eq=False)
class ArtifactCheck:
    """An artifact beside the reference.

    Attributes:
        facts: the artifact.
        drop: the metric of both, and what the artifact loses.
        differences: between the keypoints of both.
        passed: whether the loss is within the limit; None where none was set.
    """

    facts: ModelFacts
    drop: PairedDrop
    differences: KeypointDifferences
    passed: bool | None = None


@dataclass(frozen=True, eq=False)
class CheckReport:
    """All that a report shows.

    Attributes:
        metric: e.g. ``PCK@0.2``.
        keypoints: the joints that were compared, in the order of every ``per_joint``.
        left_out: joints that the model or the data set lacks.
        data: facts about the data by their names: annotation file, its hash, image folder.
        subset: the manifest's name; None where everyone was used.
        skipped: how many people do not count, by reason.
        reference: the model that artifacts are compared with.
        artifacts: one or more.
        worst: images where reference and artifact differ most, worst first.
        max_drop: the limit in points; None where none was set.
        version: of bihrnet-edge.
    """

    metric: str
    keypoints: KeypointSet
    data: Mapping[str, str]
    reference: ModelFacts
    artifacts: Sequence[ArtifactCheck]
    subset: str | None = None
    left_out: Sequence[str] = ()
    skipped: Mapping[str, int] = field(default_factory=dict)
    worst: Sequence[WorstImage] = ()
    max_drop: float | None = None
    version: str = ""


def write_report(path: Path, report: CheckReport) -> None:
    """Write the report, whole or not at all.

    Raises:
        UserError: the file cannot be written.
    """
    make_folder(path.resolve().parent)
    write_text(path, render(report))


def render(report: CheckReport) -> str:
    """The HTML document."""
    title = f"{report.reference.name}: check of {_count(len(report.artifacts), 'artifact', 'artifacts')}"
    body = joined(
        tag("h1", title),
        tag("p", _summary(report)),
        _metric_section(report),
        _facts_section(report),
        *(_artifact_section(report, check) for check in report.artifacts),
        _worst_section(report),
        tag("p", f"bihrnet-edge {report.version}".strip(), class_="note"),
    )
    return document(title, body)


def _summary(report: CheckReport) -> str:
    if report.max_drop is None or any(check.passed is None for check in report.artifacts):
        return "No limit was set for the drop."
    failed = sum(not check.passed for check in report.artifacts)
    limit = f"the limit of {report.max_drop:g} {'point' if report.max_drop == 1 else 'points'}"
    if not failed:
        return f"Every artifact stays within {limit}."
    return f"{_count(failed, 'artifact loses', 'artifacts lose')} more than {limit}."


def _metric_section(report: CheckReport) -> Markup:
    rows: list[list[object]] = []
    note, interval = "", "interval"
    for check in report.artifacts:
        drop = check.drop
        if not rows:
            rows.append([report.reference.name, "reference", _number(drop.reference), "", ""])
            people = f"{_count(drop.people, 'person', 'people')} in {_count(drop.images, 'image', 'images')}"
            note = (
                f"In per cent; the drop in points, above 0 where the artifact is worse. {people}; the interval is from "
                f"{drop.resamples} paired resamples of whole images."
            )
            interval = f"{100 * drop.confidence:g} % interval"
        verdict: object = "no limit"
        if check.passed is not None:
            verdict = tag("span", "passed" if check.passed else "failed", class_="good" if check.passed else "bad")
        values = [_number(drop.artifact), _number(drop.drop.value, signed=True), _range(drop.drop)]
        rows.append([check.facts.name, verdict, *values])
    columns = ["model", "result", report.metric, "drop", interval]
    return joined(tag("h2", "Accuracy"), tag("p", note, class_="note"), table(columns, rows, class_="figures"))


def _facts_section(report: CheckReport) -> Markup:
    facts: list[list[object]] = [[name, value] for name, value in report.data.items()]
    facts.append(["held-out subset", report.subset or "none, everyone in the annotation file"])
    facts.append([f"joints compared ({len(report.keypoints)})", ", ".join(report.keypoints.keypoints)])
    if report.left_out:
        facts.append([f"joints left out ({len(report.left_out)})", ", ".join(report.left_out)])
    for reason, number in report.skipped.items():
        facts.append([f"skipped: {reason}", number])
    if not report.skipped:
        facts.append(["skipped", "nobody"])
    parts = [tag("h2", "Data"), table(["fact", "value"], facts, class_="facts"), tag("h2", "Models")]
    for model in (report.reference, *(check.facts for check in report.artifacts)):
        rows: list[list[object]] = [
            ["file", model.path],
            ["runtime", model.runtime],
            ["size", f"{model.size / 1e6:.2f} MB"],
            ["SHA-256", tag("code", model.sha256)],
        ]
        parts += [tag("h3", model.name), table(["fact", "value"], rows, class_="facts")]
    return joined(*parts)


def _artifact_section(report: CheckReport, check: ArtifactCheck) -> Markup:
    differences, drop = check.differences, check.drop
    spreads: list[list[object]] = [
        [name, *(_number(value, digits) for value in (spread.mean, spread.p50, spread.p95, spread.max))]
        for name, spread, digits in (
            ("image pixels", differences.pixels, 2),
            ("of the reference length", differences.normalised, 4),
        )
    ]
    within = _number(100 * differences.within_quarter)
    sentence = (
        f"{within} % of {differences.compared} keypoints lie within a quarter of a heatmap pixel of the reference's; "
        f"{differences.not_finite} are not finite."
    )
    joints: list[list[object]] = []
    for index, name in enumerate(report.keypoints.keypoints):
        row: list[object] = [name]
        if drop.per_joint:
            one = drop.per_joint[index]
            values = drop.reference_per_joint[index], drop.artifact_per_joint[index]
            row += [*(_number(value) for value in values), _number(one.value, signed=True), _range(one)]
        spread = differences.per_joint[index]
        joints.append([*row, _number(spread.mean, 2), _number(spread.p95, 2)])
    scores = ["reference", "artifact", "drop", "interval"] if drop.per_joint else []
    columns = ["joint", *scores, "mean px", "p95 px"]
    return joined(
        tag("h2", f"{check.facts.name} beside {report.reference.name}"),
        tag("p", sentence),
        table(
            ["keypoint difference", "mean", "median", "95 %", "largest"],
            spreads,
            class_="figures",
        ),
        figure(histogram(differences.distances), "Keypoints by their distance from the reference's, in image pixels."),
        tag("h3", "By joint"),
        table(columns, joints, caption=f"{report.metric} and keypoint differences", class_="figures"),
    )


def _worst_section(report: CheckReport) -> Markup:
    if not report.worst:
        return Markup("")
    pairs = [
        figure(
            picture_pair(worst, report.keypoints),
            f"{worst.name}: {worst.note}. Left: {report.reference.name}, right: {worst.artifact_name}.",
        )
        for worst in report.worst
    ]
    return joined(tag("h2", "Where they differ most"), tag("div", joined(*pairs), class_="pairs"))


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _number(value: float, digits: int = 1, signed: bool = False) -> str:
    if value != value:
        return "–"
    text = f"{value:+.{digits}f}" if signed else f"{value:.{digits}f}"
    if not float(text):
        text = f"{0:.{digits}f}"  # no "-0.0"
    return text.replace("-", "−")


def _range(interval: Interval) -> Markup:
    return escaped(f"{_number(interval.low, signed=True)} to {_number(interval.high, signed=True)}")
