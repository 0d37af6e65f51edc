"""The command ``inspect``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bihrnet_edge.cli_options import AnyModelArgument, JsonOption
from bihrnet_edge.errors import UserError

if TYPE_CHECKING:
    from bihrnet_edge.runtimes.inspect import ArtifactInfo
    from bihrnet_edge.runtimes.profile import Profile


def inspect(
    artifact: AnyModelArgument,
    json: JsonOption = None,
    html: Annotated[
        Path | None, typer.Option("--html", help="Also draw the network, layer by layer, into this file.")
    ] = None,
    time: Annotated[
        bool, typer.Option("--time/--no-time", help="Time the delegate's steps for --html, where it can run the file.")
    ] = True,
) -> None:
    """Show size, input, metadata, ops, multiply-accumulates and parameters of a model."""
    from bihrnet_edge.console import progress_steps, write_json
    from bihrnet_edge.files import check_writable
    from bihrnet_edge.runtimes.inspect import inspect_artifact

    for path in (json, html):
        if path is not None:
            if path.exists() and Path(artifact).exists() and path.samefile(artifact):
                raise UserError(f"{path} is the model itself; give another file for the report.")
            check_writable(path)
    if json is not None and html is not None and json.resolve() == html.resolve():
        raise UserError(f"--json and --html are both {json}; give two files.")
    with progress_steps() as step:
        with step(f"inspect {artifact}"):
            info = inspect_artifact(artifact)
        if html is not None:
            from bihrnet_edge.runtimes.inspect_page import measure, write_inspection

            profile: Profile | str = "Not measured: --no-time was given."
            if time:
                try:
                    with step("time the delegate's steps"):
                        profile = measure(info)
                except UserError as error:  # the picture is worth having without it
                    profile = f"Not measured: {error}"
            write_inspection(html, info, profile)
    if json is not None:
        write_json(json, info.to_dict())
    _print(artifact, info)
    if html is not None:
        typer.echo(f"report: {html}")


def _print(artifact: str, info: ArtifactInfo) -> None:
    from bihrnet_edge.console import megabytes, print_table

    rows = [["kind", info.kind], ["file", megabytes(info.size_bytes)]]
    rows += [["input", f"{t.name} {list(t.shape)} {t.dtype}"] for t in info.inputs]
    rows += [["output", f"{t.name} {list(t.shape)} {t.dtype}"] for t in info.outputs]
    if info.metadata is not None:
        joints = info.metadata.keypoints
        rows.append(["model", f"{info.metadata.name}, {len(joints)} joints ({joints.name})"])
    if info.work is not None:
        rows.append(["binary MACs", f"{info.work.binary_macs / 1e6:.1f} M"])
        rows.append(["float MACs", f"{info.work.float_macs / 1e6:.1f} M"])
        rows.append(["binary parameters", f"{info.work.binary_parameters:,}"])
        rows.append(["float parameters", f"{info.work.float_parameters:,}"])
    print_table(artifact, ["", ""], rows)
    for note in info.notes:
        typer.echo(f"note: {note}")
    if info.ops:
        ops = sorted(info.ops.items(), key=lambda item: (-item[1], item[0]))
        print_table("ops", ["op", "count"], [[name, str(count)] for name, count in ops])
