"""How fast bihrnet-w32 runs in the native delegate, against everything else that could run it or its twin.

256x192, batch 1, one thread unless it says otherwise, random weights. The contenders take turns in one run, each in a
process of its own: a turn is an inference that is not timed and then, for the mean of them, as many as take about as
long as one of the twin. A ratio is the median of the ratios within a turn of all, its spread their 10th and 90th
percentile, so that what else the machine does hits both sides. Kernels and profile are measured in bouts between the
turns: of the kernels the best counts, which is the core's own, of the profile's shares the median.
Beside the ratio of 2 threads to 1 stands what the machine allows: how much more two processes of one thread get done
together than one alone. Also: the binary convolution kernels against the rate of the core's byte shuffles
(benchmarks/native/bconv_bench.cc, built here), the share of time outside LceBconv2d (from the delegate's profile: what
is neither kernel nor its scale and bias), and the memory. Exits with 1 where a bound is missed.

Example: python benchmarks/latency.py --cache ~/.cache/bihrnet-latency --rounds 40
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
from latency_models import HEIGHT, WIDTH, Models, prepare_models

from bihrnet_edge.console import megabytes, print_table, progress_steps, write_json
from bihrnet_edge.runtimes.base import runtime_label
from bihrnet_edge.runtimes.bench.process import Entry
from bihrnet_edge.runtimes.bench.run import bench
from bihrnet_edge.runtimes.delegate import delegate_info
from bihrnet_edge.runtimes.profile import Profile

ROOT = Path(__file__).resolve().parents[1]
#: LCE's interpreter takes more than a second a turn: it gets one of so many.
LCE_EVERY = 8
#: Between the turns, how often kernels and profile are measured.
BOUTS = 5
_KERNEL_REPETITIONS = 80
_PROFILED_RUNS = 50  # a profile counts warming up: among so many it does not matter

MIN_OVER_TWIN, MIN_OVER_LCE, MIN_TWO_THREADS = 7.0, 25.0, 1.7
MIN_OF_SHUFFLE_BOUND, MAX_OUTSIDE, MAX_BYTES = 0.65, 0.35, 30e6


@dataclass
class Contender:
    """A model on a runtime, and its turns' milliseconds; NaN for a turn that it sat out."""

    name: str
    model: Path
    runtime: str
    threads: int = 1
    every: int = 1
    timed: int = 1
    label: str = ""
    times: list[float] = field(default_factory=list)

    def start(self, stack: ExitStack, log: IO[str]) -> None:
        """Start its process, which ends with ``stack``."""
        command = [sys.executable, str(Path(__file__).with_name("latency_worker.py")), "serve", str(self.model)]
        self._process = subprocess.Popen(
            [*command, self.runtime, str(self.threads)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
        )  # fmt: skip
        self._log = log
        stack.callback(self._process.communicate)  # its input ends, so it ends
        info = json.loads(self._answer())
        self.label = runtime_label(info["runtime"], info["delegate"])

    def turn(self, number: int) -> None:
        """Its turn of round ``number``."""
        if number % self.every:
            self.times.append(float("nan"))
            return
        self.ask()
        self.times.append(self.hear())

    def ask(self) -> None:
        """Begin a turn."""
        assert self._process.stdin is not None
        # One that comes around so rarely takes no time to warm up: it is slow enough not to notice.
        untimed = 1 if self.every == 1 else 0
        print(untimed, self.timed, file=self._process.stdin, flush=True)

    def hear(self) -> float:
        """The milliseconds of the turn that was begun."""
        return float(self._answer())

    def _answer(self) -> str:
        assert self._process.stdout is not None
        if not (line := self._process.stdout.readline()):
            self._log.seek(0)
            raise SystemExit(f"{self.name}: its process ended.\n{self._log.read()}")
        return line

    def summary(self) -> dict[str, Any]:
        """JSON-serialisable."""
        return {
            "name": self.name,
            "runtime": self.label,
            "threads": self.threads,
            "p50_ms": float(np.nanmedian(self.times)),
            "min_ms": float(np.nanmin(self.times)),
            "turns": int(np.isfinite(self.times).sum()),
        }


@dataclass(frozen=True)
class Row:
    """One line of the table of bounds."""

    name: str
    value: float
    bound: float
    at_least: bool
    unit: str
    spread: tuple[float, float] | None = None
    note: str = ""

    @property
    def kept(self) -> bool:
        return self.value >= self.bound if self.at_least else self.value <= self.bound

    def cells(self) -> list[str]:
        def show(value: float) -> str:
            return {"x": f"{value:.2f}×", "share": f"{value:.3f}", "%": f"{value:.1%}"}.get(self.unit, megabytes(value))  # type: ignore[arg-type]

        spread = f"{show(self.spread[0])} to {show(self.spread[1])}" if self.spread else "-"
        bound = f"{'≥' if self.at_least else '≤'} {show(self.bound)}"
        return [self.name, show(self.value), spread, self.note, bound, "pass" if self.kept else "MISS"]


def ratio(name: str, slow: Contender, fast: Contender, bound: float) -> Row:
    ratios = np.array(slow.times) / np.array(fast.times)
    low, value, high = np.nanpercentile(ratios, [10, 50, 90])
    medians = np.nanmedian(slow.times) / np.nanmedian(fast.times)
    return Row(name, float(value), bound, True, "x", (float(low), float(high)), f"of p50s {medians:.2f}×")


def take_turns(
    models: Models, rounds: int, advance: Callable[[int, int], None], bout: Callable[[], None]
) -> tuple[list[Contender], list[float]]:
    """Every contender's times; ``bout`` is called BOUTS times in between.

    Also, a round each, the milliseconds of the first contender while a second process does the same.
    """
    contenders = [
        Contender("bihrnet-w32, delegate", models.binary, "litert", timed=6),
        Contender("bihrnet-w32, delegate, 2 threads", models.binary, "litert", threads=2, timed=10),
        Contender("hrnet-w32, LiteRT + XNNPACK", models.twin_tflite, "litert"),
        Contender("hrnet-w32, ONNX Runtime", models.twin_onnx, "onnxruntime"),
        Contender("bihrnet-w32, LCE's interpreter", models.binary, "lce", every=LCE_EVERY),
    ]
    ours, other = contenders[0], Contender("the same again", models.binary, "litert", timed=contenders[0].timed)
    beside: list[float] = []
    with ExitStack() as stack:
        for contender in (*contenders, other):
            contender.start(stack, stack.enter_context(tempfile.TemporaryFile("w+")))
        for number in range(rounds):
            first = number % len(contenders)  # nobody always follows the same one
            for contender in contenders[first:] + contenders[:first]:
                contender.turn(number)
            for contender in (ours, other):
                contender.ask()
            beside.append(float(np.mean([contender.hear() for contender in (ours, other)])))
            advance(number + 1, rounds)
            if (number + 1) * BOUTS // rounds > number * BOUTS // rounds:
                bout()
    return contenders, beside


class KernelBench:
    """bconv_bench, and of what it prints the best: of sets of kernels, orders of loops and bouts, at each width."""

    def __init__(self, folder: Path) -> None:
        self._program = folder / "bconv_bench"
        self._best: dict[int, dict[str, Any]] = {}
        self._shuffle_bound = 0.0
        kernels = ROOT / "runtimes" / "native" / "src" / "kernels"
        objects = []
        for source in [*sorted(kernels.glob("*.cc")), ROOT / "benchmarks" / "native" / "bconv_bench.cc"]:
            objects.append(str(folder / f"{source.stem}.o"))
            flags = ["-mavx2"] if source.stem.endswith("_avx2") and platform.machine() == "x86_64" else []
            subprocess.run(
                ["g++", "-std=c++17", "-O3", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", *flags,
                 f"-I{kernels}", f"-I{kernels.parent}", "-c", str(source), "-o", objects[-1]],
                check=True,
            )  # fmt: skip
        subprocess.run(["g++", *objects, "-o", str(self._program)], check=True)

    def bout(self) -> None:
        command = [str(self._program), str(_KERNEL_REPETITIONS)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        result = json.loads(done.stdout.splitlines()[-1])
        self._shuffle_bound = max(self._shuffle_bound, result["shuffle_bound_gmacs"])
        for figure in result["figures"]:
            known = self._best.get(figure["channels"])
            if figure["set"] != "scalar" and (known is None or figure["gmacs"] > known["gmacs"]):
                self._best[figure["channels"]] = figure

    def figures(self) -> list[dict[str, Any]]:
        return [
            figure | {"of_bound": figure["gmacs"] / self._shuffle_bound if self._shuffle_bound else 0.0}
            for _, figure in sorted(self._best.items())
        ]


def median_profile(profiles: list[Profile]) -> Profile:
    """The one whose share outside binary convolutions is the median."""
    return sorted(profiles, key=lambda profile: profile.outside_convolutions)[len(profiles) // 2]


def peak_memory(model: Path) -> dict[str, Any]:
    worker = Path(__file__).with_name("latency_worker.py")
    done = subprocess.run(
        [sys.executable, str(worker), "memory", str(model)], check=True, stdout=subprocess.PIPE, text=True
    )
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def machine() -> str:
    """The processor's name and its number of cores."""
    try:
        found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    except OSError:
        found = None
    return f"{found[1] if found else platform.processor()} ({platform.machine()}), {os.cpu_count()} cores"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=Path("out/latency"), help="folder of the models, made if missing")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--json", type=Path, help="also write everything to this file")
    arguments = parser.parse_args()
    info = delegate_info()
    profiles: list[Profile] = []
    with progress_steps() as step, tempfile.TemporaryDirectory() as name:
        models = prepare_models(arguments.cache, step)
        with step("build the kernels"):
            kernel_bench = KernelBench(Path(name))

        def bout() -> None:
            kernel_bench.bout()
            (profiled,) = bench([Entry(str(models.binary), "litert")], _PROFILED_RUNS, 3, profile=True).results
            assert profiled.profile is not None
            profiles.append(profiled.profile)

        with step("take turns") as advance:
            contenders, beside = take_turns(models, arguments.rounds, advance, bout)
        with step("memory"):
            memory = peak_memory(models.binary)
    kernels = kernel_bench.figures()
    ours, two_threads, xnnpack, onnx, lce = contenders
    profile = median_profile(profiles)
    # What the machine allows: nothing is shared, nobody waits.
    allowed = float(np.median(2 * np.array(ours.times) / np.array(beside)))
    rows = [
        ratio("against the real-valued twin, LiteRT + XNNPACK", xnnpack, ours, MIN_OVER_TWIN),
        ratio("against the real-valued twin, ONNX Runtime", onnx, ours, MIN_OVER_TWIN),
        ratio("against LCE's interpreter", lce, ours, MIN_OVER_LCE),
        replace(ratio("2 threads against 1", ours, two_threads, MIN_TWO_THREADS), note=f"two processes {allowed:.2f}×"),
    ]
    for figure in kernels:
        name = f"{figure['set']} kernel 3x3, {figure['channels']} channels, over the shuffle bound"
        note = f"{figure['gmacs']:.0f} GMAC/s"
        rows.append(Row(name, figure["of_bound"], MIN_OF_SHUFFLE_BOUND, True, "share", note=note))
    note = f"outside their kernels alone {profile.outside_kernels:.1%}"
    rows.append(
        Row("time outside binary convolutions", profile.outside_convolutions, MAX_OUTSIDE, False, "%", note=note)
    )
    rows.append(Row("peak memory over an idle interpreter", memory["over_idle_bytes"], MAX_BYTES, False, "bytes"))

    now = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    print(
        f"{now}, {machine()}, load {os.getloadavg()[0]:.1f}; {HEIGHT}x{WIDTH}, batch 1, {arguments.rounds} rounds, "
        f"delegate {info.version}"
    )
    summaries = [contender.summary() for contender in contenders]
    print_table(
        "taking turns",
        ["contender", "runtime", "threads", "p50 ms", "min ms", "turns"],
        [
            [s["name"], s["runtime"], str(s["threads"]), f"{s['p50_ms']:.2f}", f"{s['min_ms']:.2f}", str(s["turns"])]
            for s in summaries
        ],
    )
    print_table("bounds", ["", "measured", "spread", "also", "must reach", ""], [row.cells() for row in rows])
    if arguments.json is not None:
        write_json(
            arguments.json,
            {
                "date": now,
                "machine": machine(),
                "delegate": {"version": info.version, "kernel": info.kernel},
                "rounds": arguments.rounds,
                "beside_another_ms": beside,
                "contenders": [s | {"times_ms": c.times} for s, c in zip(summaries, contenders, strict=True)],
                "bounds": [asdict(row) | {"kept": row.kept} for row in rows],
                "kernels": kernels,
                "memory": memory,
                "profile": profile.to_dict(),
                "outside_convolutions": [profile.outside_convolutions for profile in profiles],
            },
        )
    return 0 if all(row.kept for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
