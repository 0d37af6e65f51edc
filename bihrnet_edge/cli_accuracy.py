"""The command that measures accuracy: ``eval``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from bihrnet_edge.cli_options import (
    AnnotationsOption,
    AnyModelArgument,
    BatchOption,
    DecodingOption,
    FlipTestOption,
    ImagesOption,
    JsonOption,
    LimitOption,
    PresetOption,
    RuntimeOption,
    SkipMissingOption,
    ThreadsOption,
    WorkersOption,
)
from bihrnet_edge.errors import UserError

if TYPE_CHECKING:
    from bihrnet_edge.pose.heatmaps import Decoding
    from bihrnet_edge.runtimes.evaluate import EvalResult

#: Rows of the table for COCO's figures.
_OKS = {"ap": "AP", "ap50": "AP50", "ap75": "AP75", "apm": "APM", "apl": "APL", "ar": "AR"}


def evaluate(
    model: AnyModelArgument,
    annotations: AnnotationsOption,
    images: ImagesOption,
    boxes: Annotated[
        Path | None,
        typer.Option(help="A detector's boxes in COCO's results form, instead of the annotated ones; scored by OKS."),
    ] = None,
    flip_test: FlipTestOption = False,
    decoding: DecodingOption = "quarter",
    per_joint: Annotated[bool, typer.Option("--per-joint", help="Also show the metric of each joint.")] = False,
    limit: LimitOption = None,
    workers: WorkersOption = 2,
    threads: ThreadsOption = 2,
    batch: BatchOption = 8,
    save_predictions: Annotated[
        Path | None, typer.Option("--save-predictions", help="Write the predictions in COCO's results form.")
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(help="Keep predictions in this file; started again with it, a stopped run goes on where it was."),
    ] = None,
    skip_missing: SkipMissingOption = False,
    runtime: RuntimeOption = None,
    preset: PresetOption = None,
    json: JsonOption = None,
) -> None:
    """Measure a model's accuracy on annotated people.

    Joints are matched by name. PCKh for MPII's joints, else PCK; where the annotations are COCO's and COCO knows the
    compared joints, its OKS figures as well.
    """
    from bihrnet_edge.console import progress_steps, write_json
    from bihrnet_edge.data.dataset import load_annotations
    from bihrnet_edge.data.detections import load_detections
    from bihrnet_edge.data.results import write_results
    from bihrnet_edge.files import make_folder
    from bihrnet_edge.runtimes.evaluate import evaluate as run
    from bihrnet_edge.runtimes.registry import open_runner

    way = check_decoding(decoding)
    if save_predictions is not None:  # a folder that cannot be made is known before the run, not after it
        make_folder(save_predictions.resolve().parent)
    with progress_steps() as step:
        with step(f"read {annotations}"):
            dataset = load_annotations(annotations, images, skip_missing=skip_missing)
            detections = None
            if boxes is not None:
                detections = load_detections(boxes, dataset.images, skip_missing=skip_missing)
        with step(f"open {model}"):
            runner = open_runner(model, threads, runtime, preset=preset)
        used, delegate, label = runner.name, runner.delegate, runner.label
        with runner, step(f"eval on {dataset.name}") as advance:
            result = run(
                runner, dataset, limit, batch, advance, flip_test=flip_test, decoding=way, workers=workers,
                boxes=detections, resume=resume, model_sha256=model_sha256(model) if resume else "",
            )  # fmt: skip
    _print_result(result, label, per_joint)
    if save_predictions is not None:
        write_results(save_predictions, result.results)
        typer.echo(f"predictions: {save_predictions} ({len(result.results)})")
    if json is not None:
        write_json(json, result.to_dict() | {"model": model, "runtime": used, "delegate": delegate})


def model_sha256(model: str) -> str:
    """Hex digest of a model's file, which exists."""
    from bihrnet_edge.files import sha256
    from bihrnet_edge.model.zoo import bundled_path

    return sha256(bundled_path(model) or Path(model))


def check_decoding(name: str) -> Decoding:
    """``name``, or a :class:`UserError` where it is no decoding; does not import NumPy."""
    if name not in ("quarter", "dark"):  # before anything is read
        raise UserError(f"--decoding is {name!r}; choose quarter or dark.")
    return cast("Decoding", name)


def _figure(value: float) -> str:
    return "-" if value != value else f"{value:.2f}"


def _print_result(result: EvalResult, label: str, per_joint: bool) -> None:
    from bihrnet_edge.console import print_table

    rows = [] if result.detector_boxes else [[result.metric, _figure(result.value)]]
    if result.oks is not None:
        rows += [[f"OKS {name}", _figure(getattr(result.oks, key))] for key, name in _OKS.items()]
    what = f"{result.people} detected boxes" if result.detector_boxes else f"{result.people} people"
    way = ["flip test"] * result.flip_test + ["DARK"] * (result.decoding == "dark")
    typer.echo(", ".join([what, label, *way]))
    print_table("", ["metric", "%"], rows)
    if result.pckh:
        groups = list(result.pckh[0].groups)
        rows = [[t.name, *map(_figure, t.groups.values()), _figure(t.mean)] for t in result.pckh]
        print_table("MPII's joint groups", ["", *groups, "Mean"], rows)
    if per_joint and result.per_joint:
        rows = [[name, _figure(value)] for name, value in result.per_joint.items()]
        print_table(f"{result.metric} by joint", ["joint", "%"], rows)
    _print_joints(result.joints.names, result.joints.model_only, result.joints.dataset_only)
    print_counts("skipped", result.skipped, result.examples)
    print_counts("note", result.notes, result.examples)
    if result.no_oks is not None and not result.pckh:
        typer.echo(f"no OKS: {result.no_oks}")
    if result.suppressed:
        typer.echo(f"suppressed by OKS-NMS: {result.suppressed}")
    typer.echo(f"{result.people / result.seconds:.1f} people/s")


def _print_joints(compared: Sequence[str], model_only: Sequence[str], dataset_only: Sequence[str]) -> None:
    typer.echo(f"joints compared ({len(compared)}): {', '.join(compared)}")
    for who, names in (("the data set", model_only), ("the model", dataset_only)):
        if names:
            typer.echo(f"joints that {who} lacks ({len(names)}): {', '.join(names)}")


def print_counts(word: str, counts: Mapping[str, int], examples: Mapping[str, Any]) -> None:
    """A line a reason: how many, and the first of them."""
    for reason, count in sorted(counts.items()):
        named = ", ".join(examples.get(reason, ()))
        more = ", …" if named and count > len(examples[reason]) else ""
        typer.echo(f"{word}: {count} {reason}" + (f" ({named}{more})" if named else ""))
