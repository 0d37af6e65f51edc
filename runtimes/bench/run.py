"""Latency and memory of artifacts on this machine, side by side."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from bihrnet_edge.errors import UserError
from bihrnet_edge.runtimes.base import check_threads
from bihrnet_edge.runtimes.bench.machine import (
    Conditions,
    judge,
    read_machine,
    read_moment,
    read_temperature,
    usable_cpus,
)
from bihrnet_edge.runtimes.bench.process import Contender, Entry
from bihrnet_edge.runtimes.bench.report import BenchReport, BenchResult
from bihrnet_edge.runtimes.bench.statistics import RatioInterval, noise_of, paired_ratio, summary
from bihrnet_edge.runtimes.profile import Profile
from bihrnet_edge.runtimes.registry import RUNTIMES, kind_of, suffix_of
from bihrnet_edge.runtimes.tflite_file import read_tflite

#: Timed inferences of each contender unless told, and turns that they are spread over.
RUNS, ROUNDS = 100, 20
#: Seconds after which warming up gives up on steady times.
WARMUP_LIMIT_S = 10.0


def entries_of(artifacts: Sequence[str], threads: Sequence[int], runtimes: Sequence[str] = ()) -> list[Entry]:
    """Every artifact on every runtime of ``runtimes`` that takes such files, at every number of threads.

    Raises:
        UserError: there is no such runtime or number of threads, or an artifact that none of the runtimes takes.
    """
    for count in threads:
        check_threads(count)
    for name in runtimes:
        if name not in RUNTIMES:
            raise UserError(f"there is no runtime {name!r}; choose one of {', '.join(RUNTIMES)}.")
    found = []
    for model in artifacts:
        kind = kind_of(model)
        chosen: list[str | None] = [name for name in runtimes if suffix_of(name) == kind] if runtimes else [None]
        if not chosen:
            raise UserError(f"{', '.join(runtimes)} runs no {kind} files like {model}; add another --runtime.")
        found += [Entry(model, name, count) for name in chosen for count in threads]
    return found


def bench(
    entries: Sequence[Entry],
    runs: int = RUNS,
    warmup: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    *,
    rounds: int = ROUNDS,
    profile: bool = False,
    pin: Sequence[int] = (),
) -> BenchReport:
    """Time contenders that take turns, each in a process of its own, so that peaks do not add up and drift hits all.

    A turn of several contenders begins with an inference that is not timed: the caches are another's before it.

    Args:
        entries: the contenders; ratios are against the first.
        runs: timed inferences of each.
        warmup: inferences before them; unless given until times are steady: the medians of three windows of 50 ms
            (or one inference) within 3 %, for at most :data:`WARMUP_LIMIT_S` seconds.
        progress: called with what is done, and what there is to do.
        rounds: turns of each; at most ``runs``.
        profile: have the native delegate time every fused step of the contenders that it takes part in.
        pin: CPUs that they may run on; all of this process unless given.

    Raises:
        UserError: an argument is out of range, or a model cannot be run, or takes its process down.
    """
    if not entries or runs < 1 or rounds < 1 or (warmup is not None and warmup < 0):
        raise UserError(
            f"bench: {len(entries)} contenders, {runs} runs in {rounds} rounds after {warmup} for warming up; give 1 "
            "or more of each, and 0 or more."
        )
    _check_pin(pin)
    rounds = min(rounds, runs)
    steps = 2 * len(entries) + rounds  # start and warm up each, then the rounds
    done = 0

    def advance() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, steps)

    profiled = _profiled(entries) if profile else []
    date = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    machine, before, start = read_machine(), read_moment(), time.monotonic()
    conditions = Conditions()
    with ExitStack() as stack:
        contenders = []
        for entry in entries:
            contenders.append(Contender(entry, stack, profile=entry in profiled, pin=pin))
            advance()
        warmed = []
        for contender in contenders:
            warmed.append(_warm_up(contender, warmup))
            advance()
        turns = _take_turns(contenders, runs, rounds, conditions, advance)
        last = [contender.finish() for contender in contenders]
    conditions.seconds = time.monotonic() - start
    counts = [entry.threads for entry in entries]
    judge(machine, before, read_moment(), conditions, counts, len(set(pin)) or None)
    results = []
    base = [float(np.median(times)) for times in turns[0]]
    for index, (contender, warm, words) in enumerate(zip(contenders, warmed, last, strict=True)):
        ratio = None if index == 0 else paired_ratio([float(np.median(times)) for times in turns[index]], base)
        results.append(_result(contender, turns[index], warm, words, ratio))
    return BenchReport(date, machine, conditions, tuple(results), runs, rounds, tuple(sorted(set(pin))))


def _profiled(entries: Sequence[Entry]) -> Sequence[Entry]:
    """Those that the delegate takes part in; all where it does in none, so that the first says why not."""
    found = [
        entry
        for entry in entries
        if entry.runtime in (None, "litert")
        and kind_of(entry.model) == ".tflite"
        and read_tflite(Path(entry.model)).needs_lce
    ]
    return found or entries


def _check_pin(pin: Sequence[int]) -> None:
    if not pin:
        return
    usable = usable_cpus()
    if not usable:
        raise UserError("this system does not let a process choose its CPUs; leave --pin out.")
    if missing := sorted(set(pin) - usable):
        raise UserError(
            f"--pin names the {'CPU' if len(missing) == 1 else 'CPUs'} {', '.join(map(str, missing))}, and this "
            f"process may use {', '.join(map(str, sorted(usable)))}."
        )


def _warm_up(contender: Contender, warmup: int | None) -> dict[str, Any]:
    if warmup is None:
        return contender.ask({"steady_s": WARMUP_LIMIT_S})
    if warmup:
        contender.ask({"untimed": warmup, "timed": 0})
    return {"steady": None, "warmup_runs": warmup}


def _take_turns(
    contenders: Sequence[Contender], runs: int, rounds: int, conditions: Conditions, advance: Callable[[], None]
) -> list[list[np.ndarray[Any, np.dtype[np.float64]]]]:
    """Every contender's turns, each an array of milliseconds."""
    turns: list[list[np.ndarray[Any, np.dtype[np.float64]]]] = [[] for _ in contenders]
    order = list(range(len(contenders)))
    untimed = 1 if len(contenders) > 1 else 0
    for number in range(rounds):
        timed = runs * (number + 1) // rounds - runs * number // rounds
        first = number % len(order)  # nobody always follows the same one
        clocks = []
        for index in order[first:] + order[:first]:
            answer = contenders[index].ask({"untimed": untimed, "timed": timed})
            turns[index].append(np.array(answer["times_ms"], np.float64))
            clocks.append(answer["clock_mhz"])
        if all(clocks):
            conditions.clock_mhz.append(min(clocks))
        if (temperature := read_temperature()[0]) is not None:
            conditions.temperature_c.append(temperature)
        advance()
    return turns


def _result(
    contender: Contender,
    turns: list[np.ndarray[Any, np.dtype[np.float64]]],
    warmed: dict[str, Any],
    last: dict[str, Any],
    ratio: RatioInterval | None,
) -> BenchResult:
    times = np.concatenate(turns)
    return BenchResult(
        model=contender.entry.model,
        runtime=contender.ready["runtime"],
        delegate=contender.ready["delegate"],
        threads=contender.entry.threads,
        runs=len(times),
        turns_ms=tuple(tuple(turn.tolist()) for turn in turns),
        noise=noise_of(turns),
        cold_start_ms=contender.cold_start_ms,
        load_ms=contender.ready["load_ms"],
        first_ms=contender.ready["first_ms"],
        steady=warmed["steady"],
        warmup_runs=warmed["warmup_runs"],
        peak_rss_mib=last["peak_rss_mib"],
        ratio=ratio,
        profile=Profile.from_dict(last["profile"]) if "profile" in last else None,
        **summary(times),
    )
