"""What a run leaves to look at: ``log.jsonl``, one JSON object a line, and TensorBoard's events."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bihrnet_edge.files import write_text


class RunLog:
    """The log of one run; only the first process has an ``active`` one.

    Args:
        folder: holds ``log.jsonl`` and ``tensorboard/``.
        lines: how many of the lines that are there belong to the state from which the run goes on; what came after
            is written again.
        active: whether anything is written.
    """

    def __init__(self, folder: Path, lines: int, *, active: bool) -> None:
        self.path = folder / "log.jsonl"
        self.lines = lines
        self._writer: Any = None
        if not active:
            return
        kept = self.path.read_text(encoding="utf-8").splitlines(keepends=True) if self.path.exists() else []
        if len(kept) > lines:
            write_text(self.path, "".join(kept[:lines]))
        self.lines = min(lines, len(kept))
        from tensorboardX import SummaryWriter

        self._writer = SummaryWriter(str(folder / "tensorboard"))

    def epoch(
        self,
        event: str,
        phase: str,
        epoch: int,
        losses: tuple[str, ...],
        figures: Mapping[str, float],
        values: Mapping[str, float],
    ) -> None:
        """One line, and the same figures for TensorBoard.

        Args:
            event: ``epoch``, ``reestimated`` at the end of a phase, ``final`` for the run's checkpoint.
            phase: its name.
            epoch: epochs of it that are done.
            losses: names of the losses in ``figures``.
            figures: running losses and speed.
            values: what was measured, per cent.
        """
        self.lines += 1
        if self._writer is None:
            return
        entry: dict[str, Any] = {"event": event, "phase": phase, "epoch": epoch}
        entry |= {name: round(value, 2) for name, value in values.items()}
        entry["losses"] = {name: round(figures[name], 4) for name in losses if name in figures}
        if event == "epoch":
            entry |= {name: round(figures[name], 4) for name in Meter.NAMES if name in figures}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
        scalars = dict(values) | {name: value for name, value in figures.items() if event == "epoch"}
        for name, value in scalars.items():
            self._writer.add_scalar(f"{phase}/{name}", value, epoch)

    def close(self) -> None:
        """Write out what TensorBoard's writer still holds."""
        if self._writer is not None:
            self._writer.close()


class Meter:
    """Images a second, and the share of the time in which a step waited for its images."""

    NAMES = ("images_per_second", "data_share")

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self._waited = 0.0
        self._steps = 0

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Time spent in here is waiting for data."""
        started = time.perf_counter()
        yield
        self._waited += time.perf_counter() - started

    def count(self, images: int) -> dict[str, float]:
        """Another step of ``images`` is done; the figures since this meter was made."""
        self._steps += 1
        elapsed = time.perf_counter() - self._started
        return dict(zip(self.NAMES, (self._steps * images / elapsed, self._waited / elapsed), strict=True))
