"""The process that :mod:`bihrnet_edge.runtimes.bench` starts for one measurement."""

from __future__ import annotations

import json
import os
import re
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from bihrnet_edge.errors import UserError
from bihrnet_edge.runtimes.profile import read_profile
from bihrnet_edge.runtimes.registry import open_runner


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


def measure(
    model: str, threads: int, runs: int, warmup: int, runtime: str | None, profile: bool = False
) -> dict[str, Any]:
    """The measured fields of a :class:`bihrnet_edge.runtimes.bench.BenchResult`."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "profile.json" if profile else None
        with open_runner(model, threads, runtime, profile=path) as runner:
            shape = (runner.batch or 1, runner.metadata.input_height, runner.metadata.input_width, 3)
            runner.prepare(np.random.default_rng(0).standard_normal(shape, np.float32))
            times = np.empty(warmup + runs)
            for index in range(warmup + runs):
                start = time.perf_counter()
                runner.invoke()
                times[index] = time.perf_counter() - start
            times *= 1000
            timed = times[warmup:] / shape[0]
            result: dict[str, Any] = {
                "runtime": runner.name,
                "delegate": runner.delegate,
                "min_ms": float(timed.min()),
                "p50_ms": float(np.percentile(timed, 50)),
                "p90_ms": float(np.percentile(timed, 90)),
                "peak_rss_mib": peak_rss_mib(),
            }
        if path is not None:  # the delegate has written it by now; warming up counts in its means, so it does here
            result["profile"] = read_profile(path, float(times.mean())).to_dict()
        return result


def main() -> int:
    """Take the task from the command line; print the result, or the one sentence of a user's mistake."""
    # The runtimes' native parts print to stdout as they like; the result keeps a descriptor of its own.
    with os.fdopen(os.dup(1), "w") as channel:
        os.dup2(2, 1)
        try:
            text, code = json.dumps(measure(*json.loads(sys.argv[1]))), 0
        except UserError as error:
            text, code = str(error), UserError.exit_code
        channel.write(text)
    return code


if __name__ == "__main__":
    sys.exit(main())
