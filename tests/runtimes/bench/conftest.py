from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from bihrnet_edge.runtimes.bench.machine import Conditions, Machine
from bihrnet_edge.runtimes.bench.report import BenchReport, BenchResult
from bihrnet_edge.runtimes.bench.statistics import noise_of, paired_ratio, summary

MACHINE = Machine(
    "Cortex-A76", "Raspberry Pi 5", "aarch64", "Linux 6.6", "3.11.2", 4, (2400.0,), ("ondemand",), 8000.0, {}
)


def make_result(model: str, ms: float, threads: int = 1, seed: int = 0, base: BenchResult | None = None) -> BenchResult:
    turns = [ms * np.random.default_rng([seed, number]).normal(1, 0.005, 5) for number in range(20)]
    medians = [float(np.median(turn)) for turn in turns]
    ratio = None if base is None else paired_ratio(medians, [float(np.median(turn)) for turn in base.turns_ms])
    return BenchResult(
        model=model, runtime="litert", delegate="neon", threads=threads, runs=100, noise=noise_of(turns),
        turns_ms=tuple(tuple(turn.tolist()) for turn in turns), cold_start_ms=900.0, load_ms=300.0, first_ms=2 * ms,
        steady=True, warmup_runs=9, peak_rss_mib=80.0, ratio=ratio, **summary(np.concatenate(turns)),
    )  # fmt: skip


@pytest.fixture
def make_report() -> Callable[..., BenchReport]:
    """A report of ``(model, ms)`` or ``(model, ms, threads)``."""

    def make(
        *contenders: tuple[str, float] | tuple[str, float, int], seed: int = 0, machine: Machine = MACHINE
    ) -> BenchReport:
        results: list[BenchResult] = []
        for number, (model, ms, *threads) in enumerate(contenders):
            base = results[0] if results else None
            results.append(make_result(model, ms, *threads, seed=10 * seed + number, base=base))
        met = Conditions(10.0, [2400.0, 2390.0] * 10, [50.0 + n for n in range(20)], 0.01, 0.0)
        return BenchReport("2026-11-26T01:00:00+00:00", machine, met, tuple(results), 100, 20)

    return make
