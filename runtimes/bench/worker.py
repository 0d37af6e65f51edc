"""The process of one contender: :mod:`bihrnet_edge.runtimes.bench.process` tells it what to do, a JSON line at a time.

It answers every line with a line: ``{"untimed": A, "timed": B}`` with B times, ``{"steady_s": S}`` with how warming up
went. When its input ends it lets go of the model and says what that took.
"""

from __future__ import annotations

import gc
import json
import os
import re
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from bihrnet_edge.errors import UserError
from bihrnet_edge.runtimes.bench.machine import clock_files, highest_clock
from bihrnet_edge.runtimes.bench.statistics import is_steady
from bihrnet_edge.runtimes.bench.timed import Timed, explained, open_timed
from bihrnet_edge.runtimes.profile import read_profile

_NS_PER_MS = 1e6
#: What a window of warming up takes at least; its median is compared with those before.
_WINDOW_S = 0.05


def peak_rss_mib() -> float:
    """Highest resident memory of this process so far, MiB.

    ``getrusage`` is the fallback only: on Linux its figure survives ``exec``, so a process started by a
    large one would report its parent's peak.
    """
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        status = ""
    if match := re.search(r"VmHWM:\s*(\d+) kB", status):
        return int(match[1]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)  # bytes on macOS, KiB elsewhere


def time_calls(invoke: Callable[[], object], count: int) -> NDArray[np.float64]:
    """Milliseconds of each of ``count`` calls: two readings of the clock a call, and nothing else."""
    clock, times = time.perf_counter_ns, [0] * count
    for index in range(count):
        start = clock()
        invoke()
        times[index] = clock() - start
    return np.array(times, np.float64) / _NS_PER_MS


class Turns:
    """A model's inferences, all of them counted."""

    def __init__(self, timed: Timed) -> None:
        self._timed = timed
        self._clocks = clock_files()
        self.count, self.total_ms = 0, 0.0

    def turn(self, untimed: int, timed: int) -> dict[str, Any]:
        """``times_ms`` of single images, and the ``clock_mhz`` of the fastest core right after them."""
        times = self._run(untimed + timed)[untimed:]
        return {"times_ms": (times / self._timed.batch).tolist(), "clock_mhz": highest_clock(self._clocks)}

    def warm_up(self, limit_s: float) -> dict[str, Any]:
        """Until times are steady, for ``limit_s`` seconds at most."""
        medians: list[float] = []
        start = time.monotonic()
        while not (steady := is_steady(medians)) and time.monotonic() - start < limit_s:
            window = self._run(1)
            while window.sum() < 1000 * _WINDOW_S:
                window = np.append(window, self._run(max(1, len(window))))
            medians.append(float(np.median(window)))
        return {"steady": steady, "warmup_runs": self.count, "warmup_s": time.monotonic() - start}

    def _run(self, count: int) -> NDArray[np.float64]:
        gc.disable()
        try:
            times = time_calls(self._timed.invoke, count)
        finally:
            gc.enable()
        self.count += count
        self.total_ms += float(times.sum())
        return times


def serve(channel: TextIO, task: dict[str, Any]) -> None:
    """Open the model, say so, do what standard input says, and end with it."""

    def answer(values: dict[str, Any]) -> None:
        print(json.dumps(values), file=channel, flush=True)

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "profile.json" if task["profile"] else None
        start = time.perf_counter()
        timed = open_timed(task["model"], task["threads"], task["runtime"], path)
        load_ms = 1000 * (time.perf_counter() - start)
        turns = Turns(timed)
        with explained(task["model"], timed.runtime):
            first = turns.turn(0, 1)
            timed.output()
        answer(
            {"runtime": timed.runtime, "delegate": timed.delegate, "load_ms": load_ms, "first_ms": first["times_ms"][0]}
        )
        for line in sys.stdin:
            order = json.loads(line)
            answer(turns.warm_up(order["steady_s"]) if "steady_s" in order else turns.turn(**order))
        last: dict[str, Any] = {"peak_rss_mib": peak_rss_mib()}
        timed.close()
        if path is not None:  # every inference counts in its means, so it does here
            last["profile"] = read_profile(path, turns.total_ms / turns.count).to_dict()
        answer(last)


def main() -> int:
    """Take the task from the command line; a user's mistake is the last line, as ``{"error": sentence}``."""
    task = json.loads(sys.argv[1])
    if task["pin"]:
        os.sched_setaffinity(0, task["pin"])
    # The runtimes' native parts print to stdout as they like; the answers keep a descriptor of their own.
    with os.fdopen(os.dup(1), "w") as channel:
        os.dup2(2, 1)
        try:
            serve(channel, task)
        except UserError as error:
            print(json.dumps({"error": str(error)}), file=channel)
            return UserError.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
