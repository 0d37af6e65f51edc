"""``bench --adb``: TFLite's stock ``benchmark_model`` on a phone, with our delegate as its external delegate."""

from __future__ import annotations

import datetime
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bihrnet_edge.errors import UserError
from bihrnet_edge.runtimes.bench.machine import Conditions, Machine
from bihrnet_edge.runtimes.bench.process import Entry
from bihrnet_edge.runtimes.bench.report import BenchReport, BenchResult
from bihrnet_edge.runtimes.bench.statistics import noise_of, paired_ratio
from bihrnet_edge.runtimes.tflite_file import read_tflite

TOOL = "benchmark_model"
#: Where a phone lets its shell write and execute.
_BASE = "/data/local/tmp"
_US_PER_MS = 1000.0
_MIB = 1e6 / 2**20
_NUMBER = r"([\d.e+]+)"
_TIMINGS = re.compile(rf"Inference timings in us: Init: {_NUMBER}, First inference: {_NUMBER}")
_STATISTICS = re.compile(r"count=(\d+) ([^\n]*)")
_MEMORY = re.compile(
    r"(?:Overall peak memory footprint \(MB\) via periodic monitoring: "
    rf"|footprint[^\n]*\(MB\): init=\S+ overall=){_NUMBER}"
)
#: What adb says to what it means; the first that fits.
_MEANINGS = (
    ("no devices", "no phone is connected; plug one in with USB debugging switched on"),
    ("more than one", "several phones are connected; name one with --serial (adb devices lists them)"),
    ("unauthorized", "the phone does not trust this computer; confirm the question on its screen"),
    ("offline", "the phone does not answer; unplug it and plug it in again"),
    ("not found", "there is no such phone; adb devices lists those that are connected"),
)


@dataclass(frozen=True)
class Phone:
    """An Android phone.

    Attributes:
        benchmark_model: TFLite's tool, built for it.
        delegate: our library, built for it; None where no model has LCE's operators.
        serial: which of several phones.
    """

    benchmark_model: Path
    delegate: Path | None = None
    serial: str | None = None


@dataclass(frozen=True)
class Run:
    """What one run of ``benchmark_model`` printed: milliseconds, MiB."""

    count: int
    typical_ms: float
    min_ms: float
    load_ms: float
    first_ms: float
    memory_mib: float | None


def parse_output(text: str) -> Run:
    """The figures of the timed inferences, which come after those of warming up.

    Raises:
        UserError: they are not there.
    """
    timings, memory = _TIMINGS.search(text), _MEMORY.search(text)
    statistics = _STATISTICS.findall(text)
    try:
        if timings is None:
            raise KeyError("Inference timings")
        count, listed = statistics[-1]
        values = {key: float(value) for key, value in re.findall(rf"(\w+)={_NUMBER}", listed)}
        average = values["avg"] if "avg" in values else values["curr"]  # a single inference has no average
        return Run(
            int(count), values.get("median", average) / _US_PER_MS, values.get("min", average) / _US_PER_MS,
            float(timings[1]) / _US_PER_MS, float(timings[2]) / _US_PER_MS,
            float(memory[1]) * _MIB if memory else None,
        )  # fmt: skip
    except (KeyError, IndexError, ValueError) as error:
        raise UserError(f"{TOOL} printed no times that can be read ({error}); is it TFLite's?") from error


class _Adb:
    def __init__(self, serial: str | None) -> None:
        program = shutil.which("adb")
        if program is None:
            raise UserError("--adb needs the program adb, which is not installed here; on Debian: apt install adb.")
        self._command = [program, *(["-s", serial] if serial else [])]
        self.folder: str | None = None

    def call(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self._command, *arguments], capture_output=True, text=True, errors="replace", check=False
        )

    def check(self) -> None:
        """A :class:`UserError` unless exactly the phone that is meant answers."""
        done = self.call("get-state")
        if done.returncode or done.stdout.strip() != "device":
            said = (done.stderr or done.stdout).strip()
            meaning = next((meaning for sign, meaning in _MEANINGS if sign in said), "the phone does not answer")
            raise UserError(f"--adb: {meaning} ({_last(said)}).")

    def shell(self, command: str) -> str:
        """Standard output and error of a command that must succeed."""
        done = self.call("shell", command)
        said = done.stdout + done.stderr
        if done.returncode:
            if any(line.startswith(("error:", "adb:")) for line in done.stderr.splitlines()):
                left = f"; {self.folder} may be left there" if self.folder else ""
                raise UserError(f"--adb: the connection to the phone was lost ({_last(done.stderr)}){left}.")
            raise UserError(f"--adb: {shlex.split(command)[0]} failed on the phone ({_last(said)}).")
        return said

    def ask(self, command: str) -> str:
        """Standard output of a command that may fail."""
        return self.call("shell", command).stdout.strip()

    def push(self, source: Path, target: str) -> None:
        done = self.call("push", str(source), target)
        if done.returncode:
            raise UserError(f"--adb: {source} was not copied to the phone ({_last(done.stdout + done.stderr)}).")


def _last(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else "it says nothing"


def bench_phone(
    phone: Phone,
    entries: Sequence[Entry],
    runs: int,
    rounds: int,
    warmup: int | None = None,
    pin: Sequence[int] = (),
    advance: Callable[[int, int], None] | None = None,
) -> BenchReport:
    """Time models that take turns, each turn a run of ``benchmark_model``, which warms up by itself.

    The tool prints no single times: p50 is the median of the turns' medians (means, of an older tool).

    Args:
        phone: which, and with what.
        entries: ``.tflite`` files; ratios are against the first.
        runs: timed inferences of each.
        rounds: turns of each; at most ``runs``.
        warmup: inferences before those of each turn; the tool's half a second unless given.
        pin: CPUs of the phone.
        advance: called with the turns done, and those there are.

    Raises:
        UserError: there is no adb, no phone or no tool, a file is none for it, or the tool fails.
    """
    for path, option in ((phone.benchmark_model, "--benchmark-model"), (phone.delegate, "--delegate")):
        if path is not None and not path.is_file():
            raise UserError(f"{option} {path} does not exist; check the path.")
    needs = [_needs_delegate(entry) for entry in entries]
    if any(needs) and phone.delegate is None:
        model = entries[needs.index(True)].model
        raise UserError(f"{model} has LCE's operators; give our library, built for Android, as --delegate.")
    adb = _Adb(phone.serial)
    adb.check()
    rounds = min(rounds, runs)
    date = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    start = time.monotonic()
    turns: list[list[Run]] = [[] for _ in entries]
    hot = [_thermal_status(adb)]
    with _folder(adb) as folder:
        commands = _prepare(adb, phone, entries, needs, folder, pin)
        for number in range(rounds):
            timed = runs * (number + 1) // rounds - runs * number // rounds
            options = f" --num_runs={timed} --min_secs=0"
            options += "" if warmup is None else f" --warmup_runs={warmup} --warmup_min_secs=0"
            first = number % len(entries)
            for index in [*range(first, len(entries)), *range(first)]:
                turns[index].append(parse_output(adb.shell(commands[index] + options)))
                if advance is not None:
                    advance(sum(map(len, turns)), rounds * len(entries))
    hot.append(_thermal_status(adb))
    conditions = Conditions(seconds=time.monotonic() - start)
    if status := max((value for value in hot if value is not None), default=0):
        conditions.throttling.append(f"Android's thermal status {status}")
        conditions.warnings.append(f"Android's thermal status was {status}, which slows it down; let it cool.")
    results: list[BenchResult] = []
    for entry, needed, found in zip(entries, needs, turns, strict=True):
        results.append(_result(entry, "external" if needed else None, found, results[0] if results else None))
    return BenchReport(
        date, _machine(adb), conditions, tuple(results), runs, rounds, tuple(sorted(set(pin))), TOOL,
        (f"p50 is the median of {rounds} runs of {TOOL}, each of its median or mean; it prints no other percentiles.",),
    )  # fmt: skip


def _needs_delegate(entry: Entry) -> bool:
    if Path(entry.model).suffix != ".tflite" or entry.runtime is not None:
        raise UserError(f"{TOOL} runs .tflite files on TFLite, not {entry.model}; leave it and --runtime out.")
    return read_tflite(Path(entry.model)).needs_lce


@contextmanager
def _folder(adb: _Adb) -> Iterator[str]:
    """A folder on the phone, removed whatever happens."""
    adb.folder = adb.shell(f"mktemp -d {_BASE}/bihrnet-edge-XXXXXX").strip()
    try:
        yield adb.folder
    finally:
        adb.call("shell", f"rm -rf {shlex.quote(adb.folder)}")


def _prepare(
    adb: _Adb, phone: Phone, entries: Sequence[Entry], needs: Sequence[bool], folder: str, pin: Sequence[int]
) -> list[str]:
    """Copy everything; the command line of each entry."""
    adb.push(phone.benchmark_model, f"{folder}/{TOOL}")
    adb.shell(f"chmod 755 {folder}/{TOOL}")
    if any(needs) and phone.delegate is not None:
        adb.push(phone.delegate, f"{folder}/libbihrnet_lce.so")
    models: dict[str, str] = {}
    for entry in entries:
        if entry.model not in models:
            models[entry.model] = f"{folder}/{len(models)}.tflite"
            adb.push(Path(entry.model), models[entry.model])
    pinned = f"taskset {sum(1 << cpu for cpu in set(pin)):x} " if pin else ""
    return [
        f"{pinned}{folder}/{TOOL} --graph={models[entry.model]} --num_threads={entry.threads}"
        + (f" --external_delegate_path={folder}/libbihrnet_lce.so" if needed else "")
        for entry, needed in zip(entries, needs, strict=True)
    ]


def _result(entry: Entry, delegate: str | None, turns: list[Run], base: BenchResult | None) -> BenchResult:
    times = [np.array([turn.typical_ms]) for turn in turns]
    typical = [turn.typical_ms for turn in turns]
    memory = [turn.memory_mib for turn in turns if turn.memory_mib is not None]
    return BenchResult(
        model=entry.model,
        runtime=TOOL,
        delegate=delegate,
        threads=entry.threads,
        runs=sum(turn.count for turn in turns),
        min_ms=min(turn.min_ms for turn in turns),
        p50_ms=float(np.median(typical)),
        p90_ms=None,
        p99_ms=None,
        turns_ms=tuple((value,) for value in typical),
        noise=noise_of(times),
        cold_start_ms=None,
        load_ms=float(np.median([turn.load_ms for turn in turns])),
        first_ms=float(np.median([turn.first_ms for turn in turns])),
        steady=None,
        warmup_runs=0,
        peak_rss_mib=max(memory, default=None),
        ratio=None if base is None else paired_ratio(typical, [turn[0] for turn in base.turns_ms]),
    )


def _machine(adb: _Adb) -> Machine:
    model, maker, chip, board, abi, release = (
        adb.ask(f"getprop {name}")
        for name in (
            "ro.product.model", "ro.product.manufacturer", "ro.soc.model", "ro.board.platform", "ro.product.cpu.abi",
            "ro.build.version.release",
        )
    )  # fmt: skip
    cpu = "/sys/devices/system/cpu/cpu*/cpufreq"
    clocks = {float(khz) / 1000 for khz in re.findall(r"^\d+$", adb.ask(f"cat {cpu}/cpuinfo_max_freq"), re.M)}
    governors = set(re.findall(r"^\w+$", adb.ask(f"cat {cpu}/scaling_governor"), re.M))
    total = re.search(r"MemTotal:\s*(\d+) kB", adb.ask("cat /proc/meminfo"))
    cores = adb.ask("nproc")
    return Machine(
        cpu=chip or board or "unknown processor",
        board=f"{maker} {model}".strip(),
        architecture=abi,
        system=f"Android {release}",
        python="none",
        cores=int(cores) if cores.isdecimal() else 1,
        max_mhz=tuple(sorted(clocks)),
        governors=tuple(sorted(governors)),
        memory_mib=int(total[1]) / 1024 if total else None,
        packages={},
    )


def _thermal_status(adb: _Adb) -> int | None:
    """Android's 0 (none) to 6 (shutting down)."""
    match = re.search(r"^Thermal Status: (\d)", adb.ask("dumpsys thermalservice"), re.M)
    return int(match[1]) if match else None
