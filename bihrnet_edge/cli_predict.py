"""The command ``predict``."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bihrnet_edge.cli_options import AnyModelArgument, PresetOption, RuntimeOption, ThreadsOption
from bihrnet_edge.errors import SourceError, UserError, require_module

if TYPE_CHECKING:
    from bihrnet_edge.data.source_boxes import SourceBoxes
    from bihrnet_edge.runtimes.base import Runner
    from bihrnet_edge.runtimes.people import Box
    from bihrnet_edge.runtimes.video.capture import Capture
    from bihrnet_edge.runtimes.video.predict import VideoResult

_CAMERA = "--camera"
_FIRST_CAMERA = "0"
_SIGNALLED = 128  # what shells add to a signal's number
_LIVE = "Videos and cameras"


def predict(
    model: AnyModelArgument,
    sources: Annotated[
        list[Path] | None, typer.Argument(help="Pictures, videos, and folders of them.", show_default=False)
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="Folder for the results.")] = Path("out"),
    box: Annotated[
        list[str] | None,
        typer.Option(
            "--box", help="A person as x,y,width,height in pixels; may be repeated. All of the picture unless given."
        ),
    ] = None,
    boxes: Annotated[Path | None, typer.Option(help="A detector's boxes in COCO's results form.")] = None,
    min_score: Annotated[float, typer.Option(help="Leave out boxes of a lower score.")] = 0.3,
    threshold: Annotated[float, typer.Option(help="Draw joints whose heatmap peak is at least this.")] = 0.1,
    csv: Annotated[bool, typer.Option("--csv", help="Also write NAME.keypoints.csv, a row a joint.")] = False,
    overlay: Annotated[bool, typer.Option("--overlay/--no-overlay", help="Draw, or write the joints only.")] = True,
    camera: Annotated[
        str | None,
        typer.Option(
            _CAMERA,
            metavar="[INDEX]",
            help="Watch a camera until Ctrl-C: its number or path, or the first.",
            rich_help_panel=_LIVE,
        ),
    ] = None,
    camera_size: Annotated[
        str | None, typer.Option(metavar="WxH", help="Of the camera's pictures.", rich_help_panel=_LIVE)
    ] = None,
    max_frames: Annotated[int | None, typer.Option(min=1, help="Stop after so many frames.", rich_help_panel=_LIVE)] = (
        None
    ),
    threads: ThreadsOption = 2,
    runtime: RuntimeOption = None,
    preset: PresetOption = None,
) -> None:
    """Find the joints of people in pictures, videos or before a camera.

    Writes NAME.keypoints.json, and drawn NAME.pose.png or NAME.pose.mp4. Videos and cameras need the extra video.
    """
    from bihrnet_edge.console import progress_steps
    from bihrnet_edge.data.source_boxes import load_source_boxes
    from bihrnet_edge.files import check_writable
    from bihrnet_edge.runtimes.people import parse_box
    from bihrnet_edge.runtimes.predict import find_sources
    from bihrnet_edge.runtimes.registry import open_runner
    from bihrnet_edge.runtimes.video.capture import INSTALL

    fixed = [parse_box(text) for text in box or []]
    if fixed and boxes is not None:
        raise UserError("--box and --boxes both say where people are; give one of them.")
    if camera is None and camera_size is not None:
        raise UserError(f"--camera-size belongs to {_CAMERA}; give it, too, or leave it out.")
    if camera is not None and (sources or boxes):
        raise UserError(f"{_CAMERA} is all that is watched; leave out files and --boxes.")
    if camera is None and not sources:
        raise UserError(f"there is nothing to predict; name pictures, videos or folders, or give {_CAMERA}.")
    pictures, videos = find_sources(sources or [])
    if camera is not None or videos:
        require_module("av", f"watching {_CAMERA}" if camera else f"predicting the video {videos[0]}", INSTALL)
    detected = None if boxes is None else load_source_boxes(boxes, pictures, videos, min_score=min_score)
    if detected is not None and detected.skipped:
        typer.echo(f"note: {boxes}: left out {detected.skipped}", err=True)
    job = _Job(out, threshold, overlay, csv, fixed, detected, max_frames)
    check_writable(out / "any")  # before the model is opened
    with progress_steps() as step, step(f"open {model}"):
        runner = open_runner(model, threads, runtime, preset=preset)
    with runner:
        if camera is not None:
            _watch(runner, _device(camera), camera_size, job)
            return
        problems = _pictures(runner, pictures, job) + _videos(runner, videos, job)
    if problems:
        others = f" (and {len(problems) - 1} more like it)" if len(problems) > 1 else ""
        raise UserError(f"{problems[0].rstrip('.')}{others}.")


@dataclass(frozen=True)
class _Job:
    out: Path
    threshold: float
    overlay: bool
    table: bool
    fixed: list[Box]
    detected: SourceBoxes | None
    max_frames: int | None


def bare_camera(arguments: list[str]) -> list[str]:
    """Arguments in which a ``--camera`` without a number has one: Typer knows no options whose value may be missing."""
    result = []
    for argument, after in zip(arguments, [*arguments, ""][1:], strict=True):
        result.append(argument)
        if argument == _CAMERA and not (after.isdecimal() or after.startswith("/")):
            result.append(_FIRST_CAMERA)
    return result


def _device(camera: str) -> Path:
    if camera.isdecimal():
        return Path(f"/dev/video{int(camera)}")
    if camera.startswith("/"):
        return Path(camera)
    raise UserError(f"{_CAMERA} is {camera!r}; give a camera's number or path, e.g. 0 or /dev/video0.")


def _pictures(runner: Runner, paths: list[Path], job: _Job) -> list[str]:
    """What is wrong with some of them."""
    from bihrnet_edge.console import progress_frames
    from bihrnet_edge.runtimes.predict import predict_file

    written: list[Path] = []
    problems = []
    if not paths:
        return []
    with progress_frames(f"predict with {runner.label}") as advance:
        for done, path in enumerate(paths, start=1):
            boxes: list[Box] | None = job.fixed or (job.detected.of_picture(path) if job.detected else None)
            try:
                written += predict_file(
                    runner, path, boxes, job.out, job.threshold, overlay=job.overlay, table=job.table
                )
            except SourceError as error:
                problems.append(str(error))
            advance(done, len(paths))
    for file in written:
        typer.echo(str(file))
    return problems


def _videos(runner: Runner, paths: list[Path], job: _Job) -> list[str]:
    """What is wrong with some of them."""
    from bihrnet_edge.runtimes.video.capture import open_video

    problems = []
    for path in paths:
        at = None if job.detected is None else partial(job.detected.of_frame, path)
        try:
            result = _video(runner, partial(open_video, path), path.stem, at, job)
        except SourceError as error:
            problems.append(str(error))
            continue
        if result.problem is not None:
            problems.append(f"{result.problem}; the results hold the {result.frames} frames before")
        if result.stopped is not None:
            raise typer.Exit(_SIGNALLED + result.stopped)
    return problems


def _watch(runner: Runner, device: Path, size: str | None, job: _Job) -> None:
    from bihrnet_edge.runtimes.video.capture import open_camera

    stem = time.strftime("camera-%Y%m%d-%H%M%S")  # the recording before is not written over
    result = _video(runner, partial(open_camera, device, size), stem, None, job)
    if result.problem is not None:
        raise UserError(f"{result.problem}; the results hold the {result.frames} frames before.")
    if result.stopped not in (None, signal.SIGINT):  # Ctrl-C is how one stops watching
        raise typer.Exit(_SIGNALLED + result.stopped)


def _video(
    runner: Runner,
    opened: Callable[[], Capture],
    stem: str,
    boxes: Callable[[int], list[Box]] | None,
    job: _Job,
) -> VideoResult:
    from bihrnet_edge.console import progress_frames
    from bihrnet_edge.runtimes.video.predict import VideoFiles, predict_frames, stopped_by_signals

    files = VideoFiles.named(stem, job.out, overlay=job.overlay, table=job.table)
    files.check()
    at = (lambda _frame: job.fixed) if job.fixed else boxes
    with stopped_by_signals() as stop:
        source = opened()
        with progress_frames(f"{source.name} with {runner.label}") as advance:
            result = predict_frames(
                runner, source, files, job.threshold, boxes=at, limit=job.max_frames, stop=stop, progress=advance
            )
    for file in files.all:
        typer.echo(str(file))
    dropped = f", {result.dropped} of the camera's were dropped" if result.dropped else ""
    typer.echo(f"{result.frames} frames at {result.fps:.1f} a second{dropped}")
    return result
