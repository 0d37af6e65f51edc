"""The command that gates artifacts: ``check``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bihrnet_edge.cli_accuracy import check_decoding, print_counts
from bihrnet_edge.cli_options import (
    AnnotationsOption,
    AnyModelArgument,
    BatchOption,
    DecodingOption,
    FlipTestOption,
    ImagesOption,
    JsonOption,
    PresetOption,
    SkipMissingOption,
    ThreadsOption,
    WorkersOption,
)
from bihrnet_edge.errors import AccuracyGateError, UserError

if TYPE_CHECKING:
    from bihrnet_edge.calibration.check import CheckResult
    from bihrnet_edge.console import Step
    from bihrnet_edge.data.dataset import PoseDataset


def check(
    reference: AnyModelArgument,
    artifacts: Annotated[list[str], typer.Argument(help="What is compared with it.", show_default=False)],
    annotations: AnnotationsOption,
    images: ImagesOption,
    subset: Annotated[
        Path | None, typer.Option(help="Manifest of a held-out subset to use, as --write-subset wrote it.")
    ] = None,
    size: Annotated[
        int | None, typer.Option(min=1, help="Draw so many people, stratified by size and visible joints.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the draw.")] = 0,
    write_subset: Annotated[
        Path | None, typer.Option("--write-subset", help="Keep what --size drew as a manifest.")
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(help="Folder of images that calibrated an artifact; a subset with one is refused."),
    ] = None,
    max_drop: Annotated[
        float, typer.Option(min=0.0, help="Points of the metric that an artifact may lose; past it, exit code 3.")
    ] = 1.0,
    per_joint: Annotated[bool, typer.Option("--per-joint", help="Also show each joint.")] = False,
    report: Annotated[Path | None, typer.Option(help="Write an HTML report with the worst images.")] = None,
    flip_test: FlipTestOption = False,
    decoding: DecodingOption = "quarter",
    workers: WorkersOption = 2,
    threads: ThreadsOption = 2,
    batch: BatchOption = 8,
    skip_missing: SkipMissingOption = False,
    preset: PresetOption = None,
    json: JsonOption = None,
) -> None:
    """Compare artifacts with a reference on the same people: the metric, and how sure the drop is.

    The interval is a paired bootstrap over images. Joints are matched by name.
    """
    from bihrnet_edge.calibration.check import check_models
    from bihrnet_edge.calibration.html_report import write_report
    from bihrnet_edge.console import progress_steps, write_json
    from bihrnet_edge.data.dataset import load_annotations
    from bihrnet_edge.files import sha256

    way = check_decoding(decoding)
    if subset is not None and size is not None:
        raise UserError("--subset names people and --size draws them; give one of the two.")
    if write_subset is not None and size is None:
        raise UserError("--write-subset keeps what --size draws; give --size as well.")
    if calibration is not None and subset is None and size is None:
        raise UserError("--calibration is compared with a subset; give --subset or --size.")
    with progress_steps() as step:
        with step(f"read {annotations}"):
            dataset = load_annotations(annotations, images, skip_missing=skip_missing)
        dataset, name = _subset(dataset, annotations, images, subset, size, seed, write_subset, calibration, step)
        result = check_models(
            reference, artifacts, dataset, max_drop=max_drop, flip_test=flip_test, decoding=way, batch=batch,
            workers=workers, threads=threads, preset=preset, worst=12 if report else 0, step=step,
        )  # fmt: skip
    _print_result(result, per_joint)
    if report is not None:
        data = {"annotations": str(annotations), "SHA-256": sha256(annotations), "images": str(images)}
        write_report(report, result.report(data, name))
        typer.echo(f"report: {report}")
    if json is not None:
        write_json(json, result.to_dict() | {"subset": name, "annotations_sha256": sha256(annotations)})
    if result.failure is not None:
        raise AccuracyGateError(result.failure)


def _subset(
    dataset: PoseDataset,
    annotations: Path,
    images: Path,
    subset: Path | None,
    size: int | None,
    seed: int,
    write_subset: Path | None,
    calibration: Path | None,
    step: Step,
) -> tuple[PoseDataset, str | None]:
    """The people to check on, and what their subset is called."""
    from bihrnet_edge.calibration.manifest import read_manifest, write_manifest
    from bihrnet_edge.calibration.subset import choose_subset, refuse_overlap, subset_of
    from bihrnet_edge.data.dataset import check_folder

    if subset is None and size is None:
        return dataset, None
    used: list[Path] = []
    if calibration is not None:
        check_folder(calibration)
        used = sorted(path for path in calibration.rglob("*") if path.is_file())
    if subset is not None:
        with step(f"read {subset}"):
            manifest = read_manifest(subset)
            refuse_overlap(manifest, used)
            return subset_of(dataset, manifest, annotations), str(subset)
    assert size is not None
    with step(f"draw {size} people") as advance:
        manifest = choose_subset(dataset, annotations, images, size, seed, calibration=used, progress=advance)
    if write_subset is not None:
        write_manifest(write_subset, manifest)
    name = f"{size} people drawn with seed {seed}" + (f", {write_subset}" if write_subset else "")
    return subset_of(dataset, manifest, annotations), name


def _print_result(result: CheckResult, per_joint: bool) -> None:
    from bihrnet_edge.console import print_table

    first = result.artifacts[0].drop
    typer.echo(f"{first.people} people in {first.images} images; drop in points, {100 * first.confidence:g} % interval")
    rows = [[f"{result.reference.name} ({result.reference.runtime})", f"{first.reference:.2f}", "", "", "", ""]]
    for check in result.artifacts:
        drop, apart = check.drop.drop, check.differences
        rows.append(
            [
                f"{check.facts.name} ({check.facts.runtime})",
                f"{check.drop.artifact:.2f}",
                f"{drop.value:+.2f}",
                f"{drop.low:+.2f} to {drop.high:+.2f}",
                f"{apart.pixels.p95:.2f}",
                f"{100 * apart.within_quarter:.1f} %",
            ]
        )
    print_table("", ["model", result.metric, "drop", "interval", "p95 px", "within ¼ heatmap px"], rows)
    if per_joint:
        for check in result.artifacts:
            joints = [
                [name, f"{one:.2f}", f"{other:.2f}", f"{drop.value:+.2f}", f"{drop.low:+.2f} to {drop.high:+.2f}"]
                for name, one, other, drop in zip(
                    result.keypoints.keypoints,
                    check.drop.reference_per_joint,
                    check.drop.artifact_per_joint,
                    check.drop.per_joint,
                    strict=True,
                )
            ]
            print_table(check.facts.name, ["joint", "reference", "artifact", "drop", "interval"], joints)
    for name, value in result.oks_ap.items():
        typer.echo(f"OKS AP of {name}: {value:.2f}")
    typer.echo(f"joints compared ({len(result.keypoints)}): {', '.join(result.keypoints.keypoints)}")
    if result.left_out:
        typer.echo(f"joints left out ({len(result.left_out)}): {', '.join(result.left_out)}")
    print_counts("skipped", result.skipped, result.dataset.examples)
    print_counts("note", result.notes, result.dataset.examples)
