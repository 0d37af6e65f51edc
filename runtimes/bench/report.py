"""What a bench found, and its form in JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bihrnet_edge.errors import UserError
from bihrnet_edge.runtimes.base import runtime_label
from bihrnet_edge.runtimes.bench.machine import Conditions, Machine
from bihrnet_edge.runtimes.bench.statistics import Noise, RatioInterval
from bihrnet_edge.runtimes.profile import Profile

VERSION = 1


@dataclass(frozen=True)
class BenchResult:
    """One artifact on one runtime at one number of threads.

    Attributes:
        model: the artifact as it was named.
        runtime: what ran it.
        delegate: the kernels of the native delegate; None where it takes no part.
        threads, runs: as asked for.
        min_ms, p50_ms, p90_ms, p99_ms: of single images, the network alone (no cropping, no decoding); None for a
            percentile that the tool which timed it does not give.
        turns_ms: every turn's times in order.
        noise: how steady they were.
        cold_start_ms: from starting a process to its first answer, with the file in the system's cache.
        load_ms: opening the model, the runtime's import included.
        first_ms: the first inference.
        steady: whether warming up ended by times that were steady; None where it had a fixed number of runs.
        warmup_runs: inferences that it took.
        peak_rss_mib: highest resident memory of a process that does nothing else, the runtime included.
        ratio: its time over the first contender's; None for the first itself.
        profile: where the time goes, if that was asked for.
    """

    model: str
    runtime: str
    delegate: str | None
    threads: int
    runs: int
    min_ms: float
    p50_ms: float
    p90_ms: float | None
    p99_ms: float | None
    turns_ms: tuple[tuple[float, ...], ...]
    noise: Noise
    cold_start_ms: float | None
    load_ms: float
    first_ms: float
    steady: bool | None
    warmup_runs: int
    peak_rss_mib: float | None
    ratio: RatioInterval | None = None
    profile: Profile | None = None

    @property
    def label(self) -> str:
        """What people read as the runtime."""
        return runtime_label(self.runtime, self.delegate)

    @property
    def name(self) -> str:
        """Which of several: file, runtime and threads."""
        return f"{Path(self.model).name} ({self.label}, {self.threads} {'thread' if self.threads == 1 else 'threads'})"

    def to_dict(self) -> dict[str, Any]:
        """JSON-serialisable; without the key ``profile`` where none was asked for."""
        values = asdict(self)
        if self.profile is None:
            del values["profile"]
        if self.ratio is not None and self.ratio.low == 0:  # too few turns to say; JSON has no infinity either
            values["ratio"]["low"] = values["ratio"]["high"] = None
        values["turns_ms"] = [[round(time, 6) for time in turn] for turn in self.turns_ms]  # to the nanosecond
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> BenchResult:
        """Inverse of :meth:`to_dict`."""
        values = dict(values)
        for name in ("model", "runtime"):
            if not isinstance(values[name], str):
                raise TypeError(f"{name} is no text")
        for name in ("min_ms", "p50_ms", "load_ms", "first_ms"):
            values[name] = float(values[name])
        for name in ("p90_ms", "p99_ms", "cold_start_ms", "peak_rss_mib"):
            values[name] = None if values[name] is None else float(values[name])
        values["turns_ms"] = tuple(tuple(float(time) for time in turn) for turn in values["turns_ms"])
        values["noise"] = Noise(**values["noise"])
        if ratio := values["ratio"]:
            unknown = {"low": 0.0, "high": float("inf")} if ratio["low"] is None else {}
            values["ratio"] = RatioInterval(**ratio | unknown)
        if "profile" in values:
            values["profile"] = Profile.from_dict(values["profile"])
        return cls(**values)


@dataclass(frozen=True)
class BenchReport:
    """A run of several contenders.

    Attributes:
        date: when it began, ISO 8601.
        machine: what it ran on.
        conditions: what it met with there.
        results: the contenders in the order in which they were given; ratios are against the first.
        runs, rounds: timed inferences of each, and turns that they were spread over.
        pin: CPUs that they were pinned to; empty where they were not.
        tool: what timed them.
    """

    date: str
    machine: Machine
    conditions: Conditions
    results: tuple[BenchResult, ...]
    runs: int
    rounds: int
    pin: tuple[int, ...] = ()
    tool: str = "bihrnet-edge"
    notes: tuple[str, ...] = field(default_factory=tuple)

    @property
    def warnings(self) -> list[str]:
        """Sentences about everything that spoils the figures; the machine's, then the contenders'."""
        found = [f"the machine: {text}" for text in self.conditions.warnings]
        for result in self.results:
            if result.noise.reasons:
                found.append(f"the machine is noisy: {result.name}: {', '.join(result.noise.reasons)}.")
            if result.steady is False:
                found.append(f"{result.name} was still not steady after {result.warmup_runs} runs of warming up.")
        return found

    def to_dict(self) -> dict[str, Any]:
        """JSON-serialisable."""
        return {
            "version": VERSION,
            "date": self.date,
            "tool": self.tool,
            "machine": self.machine.to_dict(),
            "conditions": asdict(self.conditions),
            "results": [result.to_dict() for result in self.results],
            "runs": self.runs,
            "rounds": self.rounds,
            "pin": list(self.pin),
            "notes": list(self.notes),
            "warnings": self.warnings,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> BenchReport:
        """Inverse of :meth:`to_dict`; KeyError, TypeError, ValueError or AttributeError where it is none."""
        if values["version"] != VERSION:
            raise ValueError(f"version {values['version']} and not {VERSION}")
        results = tuple(BenchResult.from_dict(result) for result in values["results"])
        if not results or not all(result.turns_ms and all(result.turns_ms) for result in results):
            raise ValueError("no times")
        if any(time <= 0 for result in results for turn in result.turns_ms for time in turn):
            raise ValueError("times that are not above 0")
        return cls(
            values["date"], Machine.from_dict(values["machine"]), Conditions(**values["conditions"]), results,
            values["runs"], values["rounds"], tuple(values["pin"]), values["tool"], tuple(values["notes"]),
        )  # fmt: skip


def read_report(path: Path) -> BenchReport:
    """A file that ``bench --json`` wrote.

    Raises:
        UserError: it cannot be read, or is something else.
    """
    try:
        values = json.loads(path.read_text())
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); check the path.") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON; give a file that bench --json wrote.") from error
    return parse_report(values, path)


def parse_report(values: Any, source: object) -> BenchReport:
    """:func:`read_report` of what the file holds; ``source`` is what the error calls it."""
    try:
        return BenchReport.from_dict(values)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{source} is no result of this version's bench --json ({type(error).__name__}: {error}); make it again."
        ) from error
