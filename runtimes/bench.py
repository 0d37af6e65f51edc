"""Latency and memory of artifacts on this machine."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bihrnet_edge.errors import UserError
from bihrnet_edge.runtimes.base import check_threads, runtime_label
from bihrnet_edge.runtimes.profile import Profile
from bihrnet_edge.runtimes.registry import kind_of


@dataclass(frozen=True)
class BenchResult:
    """One artifact at one number of threads.

    Attributes:
        model: the artifact as it was named.
        runtime: what ran it.
        delegate: the kernels of the native delegate; None where it takes no part.
        threads, runs: as asked for.
        min_ms, p50_ms, p90_ms: of single images, the network alone (no cropping, no decoding).
        peak_rss_mib: highest resident memory of a process that does nothing else, the runtime included.
        profile: where the time goes, if that was asked for.
    """

    model: str
    runtime: str
    delegate: str | None
    threads: int
    runs: int
    min_ms: float
    p50_ms: float
    p90_ms: float
    peak_rss_mib: float
    profile: Profile | None = None

    @property
    def label(self) -> str:
        """What people read as the runtime."""
        return runtime_label(self.runtime, self.delegate)

    def to_dict(self) -> dict[str, Any]:
        """JSON-serialisable; without the key ``profile`` where none was asked for."""
        values = asdict(self)
        if self.profile is None:
            del values["profile"]
        return values


def bench(
    artifacts: Sequence[str],
    threads: Sequence[int] = (1,),
    runs: int = 20,
    warmup: int = 3,
    runtime: str | None = None,
    progress: Callable[[BenchResult], None] | None = None,
    *,
    profile: bool = False,
) -> list[BenchResult]:
    """Time every artifact at every number of threads, each in a process of its own so that peaks do not add up.

    Args:
        artifacts: models as :func:`bihrnet_edge.runtimes.registry.open_runner` takes them.
        threads: numbers of threads.
        runs: timed inferences.
        warmup: inferences before them.
        runtime: force one runtime.
        progress: called with each result as it comes.
        profile: have the native delegate time every fused step, too.

    Raises:
        UserError: a model cannot be run, or takes its process down.
    """
    if runs < 1 or warmup < 0:
        raise UserError(f"bench: {runs} runs after {warmup} for warming up; give 1 or more, and 0 or more.")
    for count in threads:
        check_threads(count)
    for model in artifacts:
        kind_of(model)
    results = []
    for model in artifacts:
        for count in threads:
            result = _in_child(model, count, runs, warmup, runtime, profile)
            results.append(result)
            if progress is not None:
                progress(result)
    return results


#: Python puts the current folder first on its path; in a clone of this project that is half a package.
_CHILD = (
    "import sys; sys.path[:] = [p for p in sys.path if p]; "
    "from bihrnet_edge.runtimes.bench_worker import main; sys.exit(main())"
)


def _in_child(model: str, threads: int, runs: int, warmup: int, runtime: str | None, profile: bool) -> BenchResult:
    # A fresh interpreter, not multiprocessing: its "spawn" imports the caller's main module again, which
    # would count towards the peak and breaks scripts without a main guard.
    task = json.dumps([model, threads, runs, warmup, runtime, profile])
    child = subprocess.run([sys.executable, "-c", _CHILD, task], capture_output=True, text=True, check=False)
    if child.returncode == UserError.exit_code:
        raise UserError(child.stdout.strip())
    if child.returncode != 0:
        if child.returncode < 0:
            reason = f"was ended by {signal.Signals(-child.returncode).name}"
        else:
            reason = child.stderr.strip().splitlines()[-1] if child.stderr.strip() else f"ended with {child.returncode}"
        raise UserError(f"bench: the process that ran {model} with {threads} threads failed ({reason}).")
    measured = json.loads(child.stdout)
    if "profile" in measured:
        measured["profile"] = Profile.from_dict(measured["profile"])
    return BenchResult(model=model, threads=threads, runs=runs, **measured)
