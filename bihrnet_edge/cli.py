"""The command line: parse, call, print. Exit codes: 0 fine, 1 our fault, 2 bad input, 3 less accurate or slower."""

from __future__ import annotations

import sys
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bihrnet_edge import (
    cli_accuracy,
    cli_bench,
    cli_calibrate,
    cli_check,
    cli_demo,
    cli_inspect,
    cli_overlap,
    cli_predict,
)
from bihrnet_edge.cli_options import (
    JsonOption,
    ModelArgument,
    PresetOption,
)
from bihrnet_edge.errors import AccuracyGateError, GateError, UserError

if TYPE_CHECKING:
    from bihrnet_edge.export.int8_form import Int8Form

_INTERRUPTED = 130
#: Optional dependency (its module) to the extra that installs it.
_EXTRA_OF = {
    "torch": "export", "tensorflow": "export", "tf_keras": "export", "larq": "export", "larq_compute_engine": "export",
    "onnx": "export", "yaml": "train", "lightning_fabric": "train", "tensorboardX": "train", "skimage": "eval",
    "faster_coco_eval": "eval", "av": "video",
}  # fmt: skip


class Accelerator(str, Enum):
    """What ``train`` computes on."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


app = typer.Typer(
    name="bihrnet-edge",
    help="Take a trained BiHRNet (binary HRNet for human pose estimation) and put it on real devices.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command(
    epilog="Example: `bihrnet-edge export bihrnet-small-lsp --target lce-arm64 --target onnx --out out`, or for "
    "runtimes that load no delegate: `bihrnet-edge export bihrnet-small-lsp --target tflite --tflite-precision int8 "
    "--ranges ranges.json --out out`"
)
def export(
    model: ModelArgument,
    target: Annotated[list[str], typer.Option(help="lce-arm64, tflite or onnx; may be repeated.")] = ["lce-arm64"],  # noqa: B006
    out: Annotated[Path, typer.Option("--out", help="Folder for the artifacts.")] = Path("out"),
    check_annotations: Annotated[
        Path | None,
        typer.Option(help="COCO or MPII annotations to check the accuracy on."),
    ] = None,
    check_images: Annotated[Path | None, typer.Option(help="Folder of their images.")] = None,
    check_limit: Annotated[int | None, typer.Option(min=1, help="Check on the first N people only.")] = None,
    check_subset: Annotated[
        Path | None, typer.Option(help="Check on the people of this manifest, see `check --write-subset`.")
    ] = None,
    max_drop: Annotated[
        float, typer.Option(min=0.0, help="Points of the metric that an artifact may lose; past it, exit code 3.")
    ] = 0.5,
    onnx_weights: Annotated[
        str,
        typer.Option(
            "--onnx-weights", help="packed: 1-bit kernels are bits that load as floats; plain: floats in the file too."
        ),
    ] = "packed",
    tflite_precision: Annotated[
        str,
        typer.Option(
            "--tflite-precision",
            help="Of --target tflite: float32; float16 weights; dynamic: 1-bit kernels as int8; int8: everything, for "
            "integer hardware, needs --ranges.",
        ),
    ] = "float32",
    precision: Annotated[
        str,
        typer.Option(
            help="Of what is not binary in an .lce.tflite: float, int8 (needs --ranges), or mixed, which leaves in "
            "float what int8 would hurt most (needs --ranges of `calibrate --sweep`)."
        ),
    ] = "float",
    ranges: Annotated[Path | None, typer.Option(help="Activation ranges that `calibrate` saved.")] = None,
    input_type: Annotated[
        str,
        typer.Option(
            help="What an .lce.tflite takes: float32 (normalised), uint8 (a camera's pixels), int8 (them - 128)."
        ),
    ] = "float32",
    output_type: Annotated[
        str, typer.Option(help="What it gives: float32, or an int8 artifact's heatmaps as int8 or uint8.")
    ] = "float32",
    preset: PresetOption = None,
) -> None:
    """Convert a checkpoint, compare every artifact with it, and write a report.

    Writes DIR/NAME.lce.tflite, DIR/NAME.tflite, DIR/NAME.onnx and DIR/NAME.export.json, NAME being the model's.
    Where one fails its check all are kept as ….rejected, and what was there before stays.
    """
    from bihrnet_edge.console import megabytes, print_table, progress_steps
    from bihrnet_edge.export.builtin_form import builtin_form
    from bihrnet_edge.export.onnx_form import onnx_form
    from bihrnet_edge.export.pipeline import CheckSet, export_checkpoint
    from bihrnet_edge.export.pixels import TensorTypes

    form = onnx_form(onnx_weights)
    builtin = builtin_form(tflite_precision, ranges, target)
    of_builtin_alone = builtin.ranges is not None and precision == "float"
    int8 = _int8_form(precision, None if of_builtin_alone else ranges, target)
    types = TensorTypes.of(input_type, output_type, precision, target)
    if (check_annotations is None) != (check_images is None):
        raise UserError("--check-annotations and --check-images belong together; give both or neither.")
    check = None
    if check_annotations is not None and check_images is not None:
        check = CheckSet(check_annotations, check_images, check_limit, max_drop, check_subset)
    elif check_subset is not None:
        raise UserError("--check-subset names people of --check-annotations; give these and --check-images.")
    with progress_steps() as step:
        report = export_checkpoint(
            model,
            target,
            out,
            check=check,
            preset=preset,
            onnx=form,
            tflite=builtin,
            int8=int8,
            types=types,
            step=step,
        )
    rows = [
        [
            f"{artifact.path}" + (f" ({', '.join(artifact.form.values())})" if artifact.form else ""),
            megabytes(artifact.size_bytes),
            f"{artifact.agreement.max_abs_diff:.1e}",
            f"{min(artifact.agreement.correlations):.6f}",
            f"{100 * artifact.agreement.keypoints_within:.1f} %",
            f"{report.latency(artifact):.1f}",
            "-" if artifact.metric is None else f"{artifact.metric:.2f}",
            report.drop(artifact),
        ]
        for artifact in report.artifacts
    ]
    compared = (
        f"{report.metadata.name}: compared with torch on {len(report.artifacts[0].agreement.correlations)} images"
    )
    if report.torch_metric is not None:
        compared += f"; torch {report.metric_name} {report.torch_metric:.2f}"
    metric = report.metric_name or "metric"
    columns = ["artifact", "size", "max |diff|", "min corr.", "joints ≤ 0.25 px", "ms", metric, "drop, 95 %"]
    compared += f"; ms: one image, {report.threads} threads, this machine"
    print_table(compared, columns, rows)
    typer.echo(f"report: {report.path}")
    if report.failure:
        raise AccuracyGateError(report.failure)


def _int8_form(precision: str, ranges: Path | None, targets: list[str]) -> Int8Form | None:
    """What ``--precision`` and ``--ranges`` ask for; None for float."""
    from bihrnet_edge.calibration.ranges import read_ranges
    from bihrnet_edge.export.int8_form import Int8Form

    if precision not in ("float", "int8", "mixed"):
        raise UserError(f"--precision is {precision!r}; choose float, int8 or mixed.")
    if (precision != "float") != (ranges is not None):
        raise UserError(
            "--precision int8 or mixed, or --tflite-precision int8, and --ranges belong together; make the ranges with "
            "bihrnet-edge calibrate."
        )
    if ranges is not None and "lce-arm64" not in targets:
        other = "; for --target tflite there is --tflite-precision int8" if "tflite" in targets else ""
        raise UserError(f"--precision {precision} is of --target lce-arm64; give that as well{other}.")
    return None if ranges is None else Int8Form.of(read_ranges(ranges), mixed=precision == "mixed", where=ranges)


app.command(epilog="Example: `bihrnet-edge inspect out/bihrnet-small-lsp.lce.tflite --html inside.html`")(
    cli_inspect.inspect
)
app.command(
    epilog="Example: `bihrnet-edge calibrate bihrnet-small-lsp --annotations train.json --images images --size 128`"
)(cli_calibrate.calibrate)
app.command("eval", epilog="Example: `bihrnet-edge eval bihrnet-small-lsp --annotations val.json --images images`")(
    cli_accuracy.evaluate
)
app.command(
    epilog="Example: `bihrnet-edge check bihrnet-small-lsp out/bihrnet-small-lsp.onnx --annotations val.json "
    "--images images --report check.html`"
)(cli_check.check)
app.command(epilog="Example: `bihrnet-edge overlap train.json calibration.json held-out.json --images images`")(
    cli_overlap.overlap
)


app.command(epilog="Example: `bihrnet-edge demo out/bihrnet-small-lsp.lce.tflite out/bihrnet-small-lsp.onnx`")(
    cli_demo.demo
)


app.command(
    epilog="Example: `bihrnet-edge predict out/bihrnet-small-lsp.onnx person.jpg clip.mp4`, or before a camera until "
    "Ctrl-C: `bihrnet-edge predict out/bihrnet-small-lsp.onnx --camera`"
)(cli_predict.predict)


app.command(
    epilog="Example: `bihrnet-edge bench out/bihrnet-small-lsp.lce.tflite twin.onnx --threads 1,2 --json new.json "
    "--compare old.json --html bench.html`, or on a Raspberry Pi: `bihrnet-edge bench out/bihrnet-small-lsp.lce.tflite "
    "--ssh pi@raspberrypi --wheel dist/bihrnet_edge-*_aarch64.whl`"
)(cli_bench.bench)


@app.command(
    epilog="Example: `bihrnet-edge train recipe.yaml --out runs/mine --accelerator cpu --devices 2 --threads 1`"
)
def train(
    recipe: Annotated[str, typer.Argument(help="Recipe (YAML), or the name of a bundled one.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", help="Folder of the run; started again it goes on there.")] = Path(
        "runs/default"
    ),
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads of each process; all cores between them unless given.")
    ] = None,
    accelerator: Annotated[
        Accelerator, typer.Option(help="What to compute on; auto is CUDA where there is some.")
    ] = Accelerator.auto,
    devices: Annotated[
        int, typer.Option(min=1, help="Processes on this machine, one a GPU; on the CPU they share the cores.")
    ] = 1,
    nodes: Annotated[
        int,
        typer.Option(min=1, help="Machines; start the command on each, with MASTER_ADDR, MASTER_PORT, NODE_RANK set."),
    ] = 1,
    save_every: Annotated[
        float, typer.Option(min=0.0, help="Seconds between two states; at most that much is lost when it is stopped.")
    ] = 120.0,
) -> None:
    """Train by a recipe; stopped and started again on the same folder it resumes."""
    from bihrnet_edge.training.command import run_recipe

    checkpoint = run_recipe(
        recipe,
        out,
        threads=threads,
        accelerator=accelerator.value,
        devices=devices,
        nodes=nodes,
        save_seconds=save_every,
    )
    if checkpoint is not None:
        typer.echo(str(checkpoint))


@app.command(epilog="Example: `bihrnet-edge doctor`")
def doctor(json: JsonOption = None) -> None:
    """Show what is installed and what each target needs."""
    from bihrnet_edge.console import print_table, write_json
    from bihrnet_edge.doctor import examine

    report = examine()
    print_table(
        "installed", ["package", "version"], [[name, version or "-"] for name, version in report.packages.items()]
    )
    rows = [[task.name, ", ".join(task.missing) or "-", task.install if task.missing else ""] for task in report.tasks]
    print_table("tasks", ["task", "missing here", "to add it"], rows)
    print_table("this machine", ["", ""], [[key, value] for key, value in report.machine.items()])
    if json is not None:
        write_json(json, report.to_dict())


def _version(value: bool) -> None:
    if value:
        from importlib.metadata import version

        typer.echo(f"bihrnet-edge {version('bihrnet-edge')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


def main(arguments: list[str] | None = None) -> Any:
    """Run the command line; every expected failure is one sentence on stderr and an exit code."""
    try:
        app(cli_predict.bare_camera(sys.argv[1:] if arguments is None else arguments))
    except (UserError, GateError) as error:
        typer.echo(f"bihrnet-edge: {error}", err=True)
        sys.exit(error.exit_code)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in _EXTRA_OF:
            raise
        install = f'pip install "bihrnet-edge[{_EXTRA_OF[package]}]"'
        typer.echo(f"bihrnet-edge: this needs {package}, which is not installed; run: {install}.", err=True)
        sys.exit(UserError.exit_code)
    except SystemExit as stop:
        if stop.code == _INTERRUPTED:  # what Typer makes of Ctrl-C
            typer.echo("bihrnet-edge: interrupted; nothing half-written was left.", err=True)
        raise


if __name__ == "__main__":
    main()
