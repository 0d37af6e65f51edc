"""The command ``demo``."""

from __future__ import annotations

import webbrowser
from typing import Annotated

import typer

from bihrnet_edge.cli_options import RuntimeOption, ThreadsOption
from bihrnet_edge.errors import UserError

#: More columns than these are too narrow to compare.
_MAX_MODELS = 4


def demo(
    models: Annotated[list[str], typer.Argument(help="Models to see side by side, one to four.", show_default=False)],
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on this machine; 0 takes a free one.")] = 8017,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page in the browser.")] = True,
    threads: ThreadsOption = 2,
    runtime: RuntimeOption = None,
) -> None:
    """Serve a page on this machine alone: pick or drop a picture, or use the webcam, and see what each model finds.

    Skeletons, heatmaps and latencies side by side; the joints are those of `predict`. Ctrl-C ends it.
    """
    if len(models) > _MAX_MODELS:
        raise UserError(f"demo shows up to {_MAX_MODELS} models side by side, not {len(models)}.")
    from bihrnet_edge.console import progress_steps
    from bihrnet_edge.runtimes.demo.models import DemoModels
    from bihrnet_edge.runtimes.demo.server import DemoServer

    with progress_steps() as step, step(f"open {', '.join(models)}"):
        opened = DemoModels(models, threads, runtime)
    with opened, DemoServer(opened, port) as server:
        typer.echo(f"{server.url} (Ctrl-C ends it)")
        if browser:
            webbrowser.open(server.url)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            typer.echo("bihrnet-edge: the demo has ended.", err=True)
