"""What the terminal shows: progress on stderr, tables on stdout."""

from __future__ import annotations

import contextlib
import json
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bihrnet_edge.files import make_folder, write_text

if TYPE_CHECKING:
    from rich.progress import Progress

Advance = Callable[[int, int], None]
Step = Callable[[str], contextlib.AbstractContextManager[Advance]]
#: Frames that a rate is the mean of.
_RATE_FRAMES = 30


@contextlib.contextmanager
def progress_steps() -> Iterator[Step]:
    """A live list of steps on stderr; each step is a context manager that yields ``advance(done, total)``."""
    with _progress() as progress:

        @contextlib.contextmanager
        def step(description: str) -> Iterator[Advance]:
            task = progress.add_task(description, total=None, count="")

            def advance(done: int, total: int) -> None:
                progress.update(task, completed=done, total=total, count=f"{done}/{total}")

            try:
                yield advance
            except BaseException:
                progress.remove_task(task)  # the error's sentence says what happened
                raise
            progress.update(task, total=1, completed=1)

        yield step


@contextlib.contextmanager
def progress_frames(description: str) -> Iterator[Callable[[int, int | None], None]]:
    """A bar on stderr that shows frames a second over the last few; yields ``advance(done, total or None)``."""
    times: deque[float] = deque(maxlen=_RATE_FRAMES)
    with _progress() as progress:
        task = progress.add_task(description, total=None, count="")

        def advance(done: int, total: int | None) -> None:
            times.append(time.perf_counter())
            rate = f", {(len(times) - 1) / (times[-1] - times[0]):.1f} FPS" if times[-1] > times[0] else ""
            # What a container says of its length is not always true.
            total = None if total is None else max(done, total)
            count = f"{done} frames" if total is None else f"{done}/{total} frames"
            progress.update(task, completed=done, total=total, count=count + rate)

        yield advance


def _progress() -> Progress:
    """Bars on stderr; a task's field ``count`` says how far it is."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (
        SpinnerColumn(finished_text="[green]✓[/]"),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[count]}"),
        TimeElapsedColumn(),
    )
    return Progress(*columns, console=Console(stderr=True))


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on stdout; columns after the first are aligned right, where numbers line up."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(
        title=escape(title) or None, title_justify="left", box=SIMPLE_HEAD, pad_edge=False, show_header=any(columns)
    )
    for index, column in enumerate(columns):
        widest = max((len(row[index]) for row in rows), default=0)
        if index == 0:  # a path, which may fold; a figure that is cut is worse than none
            table.add_column(column, overflow="fold")
        else:
            table.add_column(column, justify="right", no_wrap=True, min_width=max(widest, len(column)))
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    console = Console()
    if not console.is_terminal:
        console = Console(width=200)  # a pipe has no width; do not fold what a script reads
    console.print(table)


def write_json(path: Path, value: Any) -> None:
    """What :func:`json_text` gives, indented, written whole or not at all."""
    make_folder(path.resolve().parent)
    write_text(path, json_text(value, indent=2) + "\n")


def json_text(value: Any, indent: int | None = None) -> str:
    """JSON with sorted keys; NaN, which JSON lacks, becomes null."""
    return json.dumps(_plain(value), indent=indent, sort_keys=True, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    return str(value) if isinstance(value, Path) else value


def megabytes(count: int) -> str:
    """``2.97 MB``: decimal megabytes, as shops and networks count."""
    return f"{count / 1e6:.2f} MB"
