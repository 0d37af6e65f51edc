"""The command that finds activation ranges for int8: ``calibrate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bihrnet_edge.calibration.mixed import DEFAULT_SHARE
from bihrnet_edge.calibration.observer_names import DEFAULT_OBSERVER, OBSERVERS, PERCENTILE
from bihrnet_edge.cli_options import AnnotationsOption, ImagesOption, ModelArgument, PresetOption
from bihrnet_edge.errors import UserError


def calibrate(
    model: ModelArgument,
    annotations: AnnotationsOption,
    images: ImagesOption,
    out: Annotated[Path, typer.Option("--out", help="Where the ranges go; `export --ranges` reads them.")] = Path(
        "ranges.json"
    ),
    size: Annotated[int, typer.Option(min=1, help="Draw so many people, stratified by size and visible joints.")] = 128,
    seed: Annotated[int, typer.Option(min=0, help="Of the draw.")] = 0,
    observer: Annotated[
        str, typer.Option(help="minmax, percentile, entropy or mse: what of an activation's values int8 shall hold.")
    ] = DEFAULT_OBSERVER,
    percentile: Annotated[
        float, typer.Option(min=50.0, max=100.0, help="For percentile: per cent of the values that stay inside.")
    ] = PERCENTILE,
    held_out: Annotated[
        list[Path] | None,
        typer.Option(
            help="Manifest of a subset that accuracy is checked on; its images are left out. May be repeated."
        ),
    ] = None,
    write_subset: Annotated[
        Path | None, typer.Option("--write-subset", help="Keep who was drawn as a manifest, as `check --size` does.")
    ] = None,
    sweep: Annotated[
        int,
        typer.Option(
            min=0,
            help="Round one activation at a time on so many of the images and choose what stays in float, for "
            "`export --precision mixed`; takes minutes.",
        ),
    ] = 0,
    mixed_share: Annotated[
        float,
        typer.Option(min=0.0, max=1.0, help="Share of int8's error in the heatmaps that mixed may leave."),
    ] = DEFAULT_SHARE,
    reestimate: Annotated[
        Path | None,
        typer.Option(
            help="Re-estimate BatchNorm's statistics on the images first. The checkpoint with them goes here; it is "
            "what the ranges are of, and what to export.",
        ),
    ] = None,
    preset: PresetOption = None,
) -> None:
    """Run a checkpoint on calibration images and save the range of every activation, for an int8 export."""
    if observer not in OBSERVERS:
        raise UserError(f"--observer is {observer!r}; choose one of {', '.join(OBSERVERS)}.")
    from bihrnet_edge.calibration.manifest import read_manifest, write_manifest
    from bihrnet_edge.calibration.ranges import write_ranges
    from bihrnet_edge.calibration.subset import choose_subset, subset_of
    from bihrnet_edge.console import progress_steps
    from bihrnet_edge.data.dataset import load_annotations
    from bihrnet_edge.export.calibrate import calibrate as run
    from bihrnet_edge.export.calibrate import reestimate as fit_batchnorm
    from bihrnet_edge.export.calibrate import refuse_exact
    from bihrnet_edge.files import check_writable
    from bihrnet_edge.model.checkpoint import load_checkpoint, save_checkpoint

    checkpoint = load_checkpoint(model, preset)
    if reestimate is not None:
        if Path(model).exists() and reestimate.exists() and reestimate.samefile(model):
            raise UserError(f"--reestimate {reestimate} is the checkpoint that is read; give another file.")
        if reestimate.resolve() in {path.resolve() for path in (out, write_subset) if path is not None}:
            raise UserError(f"--reestimate {reestimate} is where another result goes, too; give another file.")
        refuse_exact(checkpoint)
        check_writable(reestimate)
    constant = 0
    others = [read_manifest(path) for path in held_out or []]
    with progress_steps() as step:
        with step(f"read {annotations}"):
            dataset = load_annotations(annotations, images)
        with step(f"draw {size} people") as advance:
            manifest = choose_subset(
                dataset, annotations, images, size, seed, others=others, leave_out=True, progress=advance
            )
        chosen = subset_of(dataset, manifest, annotations)
        if reestimate is not None:
            checkpoint, constant = fit_batchnorm(checkpoint, chosen, step=step)
        ranges = run(
            checkpoint, chosen, manifest, observer, percentile=percentile, sweep=sweep, share=mixed_share, step=step
        )
    if write_subset is not None:
        write_manifest(write_subset, manifest)
    if reestimate is not None:
        save_checkpoint(reestimate, checkpoint)
        kept = f"; {constant} channels were constant there and keep theirs" if constant else ""
        typer.echo(f"{reestimate}: BatchNorm statistics of {ranges.images} people of {annotations}{kept}")
    write_ranges(out, ranges)
    typer.echo(f"{out}: ranges of {len(ranges.activations)} activations on {ranges.images} people of {annotations}")
    if (found := ranges.sensitivity) is not None:
        typer.echo(
            f"mixed keeps {len(found.kept)} of {len(found.alone)} activations in float; squared error of the heatmaps, "
            f"relative: int8 {found.int8:.2g}, mixed {found.mixed:.2g}"
        )
