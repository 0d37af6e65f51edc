"""What ``ablation.py`` found: the table of networks, and which differences are more than chance.

    python benchmarks/ablation_table.py runs/ablation            # prints Markdown
    python benchmarks/ablation_table.py runs/ablation --measure  # exports and times the networks first

Only whole seeds count. A difference is taken within a seed between runs that are alike but for what is compared, its
interval is Student's, its p-value that of the paired t-test; Holm's correction is for all comparisons of the table.
``--measure`` exports one network of every kind (size and speed do not depend on the weights):
binary ones for Larq Compute Engine, run by the delegate, twins for ONNX Runtime; they take turns on one thread.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from ablation import BLOCKS, BOTTLENECKS, LOSSES, SIZE, TWIN, Run, design, read_results
from scipy import stats

from bihrnet_edge.runtimes.bench.run import bench, entries_of
from bihrnet_edge.runtimes.inspect import inspect_artifact

_ALPHA = 0.05
#: The losses that are compared in every architecture.
_FACTORIAL = tuple(name for name in LOSSES if name != "recipe")
Scores = dict[Run, float]
Change = Callable[[Run], Run]


def whole_seeds(results: list[dict[str, Any]]) -> tuple[Scores, list[int]]:
    """PCK of the runs of those seeds that are complete."""
    fields = ("seed", "bottleneck", "block", "loss")
    scores = {Run(*(line[field] for field in fields)): float(line["pck"]) for line in results}
    seeds = [seed for seed in sorted({run.seed for run in scores}) if all(run in scores for run in design([seed]))]
    return {run: score for run, score in scores.items() if run.seed in seeds}, seeds


def differences(scores: Scores, to: Change, of: Callable[[Run], bool]) -> list[float]:
    """Score of ``to(run)`` minus score of ``run``, for the runs that ``of`` picks."""
    return [scores[to(run)] - score for run, score in scores.items() if of(run)]


def comparisons() -> Iterable[tuple[str, Change, Callable[[Run], bool]]]:
    """Name, what is changed, and in which runs."""

    def with_loss(loss: str) -> Change:
        return lambda run: Run(run.seed, run.bottleneck, run.block, loss)

    def has_loss(loss: str) -> Callable[[Run], bool]:
        return lambda run: run.loss == loss

    def factorial(run: Run) -> bool:
        return run.loss in _FACTORIAL

    def ms(run: Run) -> Run:
        return Run(run.seed, run.bottleneck, "ms", run.loss)

    def ir(run: Run) -> Run:
        return Run(run.seed, "ir", run.block, run.loss)

    yield "IR − plain bottleneck, binary", ir, lambda run: factorial(run) and run.bottleneck == "plain"
    yield "IR − plain bottleneck, twin", ir, lambda run: run.loss == TWIN and run.bottleneck == "plain"
    yield "MS − basic block, binary", ms, lambda run: factorial(run) and run.block == "basic"
    yield "MS − basic block, twin", ms, lambda run: run.loss == TWIN and run.block == "basic"
    yield "binary with AWing+KL − twin", with_loss("AWing+KL"), has_loss(TWIN)
    yield "AWing − MSE", with_loss("AWing"), has_loss("MSE")
    yield "AWing+KL − AWing", with_loss("AWing+KL"), has_loss("AWing")
    yield "AWing+KL − MSE", with_loss("AWing+KL"), has_loss("MSE")
    yield (
        "the recipe's loss − AWing+KL, IR and MS",
        with_loss("recipe"),
        lambda run: run.loss == "AWing+KL" and (run.bottleneck, run.block) == ("ir", "ms"),
    )


def _holm(p: list[float]) -> list[float]:
    """Holm's corrected p-values."""
    corrected, largest = [1.0] * len(p), 0.0
    for rank, index in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        largest = max(largest, min(1.0, (len(p) - rank) * p[index]))
        corrected[index] = largest
    return corrected


def effects(scores: Scores) -> str:
    """The table of differences."""
    names, values = [], []
    for name, to, of in comparisons():
        found = differences(scores, to, of)
        if len(found) > 1:
            names.append(name)
            values.append(found)
    corrected = _holm([float(stats.ttest_1samp(found, 0.0).pvalue) for found in values])
    lines = ["| difference | points of PCK | 95 % interval | pairs | p, Holm | |", "|---|---|---|---|---|---|"]
    for name, found, p in zip(names, values, corrected, strict=True):
        low, high = stats.t.interval(0.95, len(found) - 1, np.mean(found), stats.sem(found))
        verdict = "significant" if p < _ALPHA else "not significant"
        mean = f"{np.mean(found):+.2f}"
        lines.append(f"| {name} | {mean} | {low:+.2f} to {high:+.2f} | {len(found)} | {p:.3f} | {verdict} |")
    return "\n".join(lines)


def networks(scores: Scores, seeds: list[int], measured: dict[str, dict[str, Any]]) -> str:
    """The table of networks: mean over the seeds, and their standard deviation where there are several."""
    losses = [TWIN, *LOSSES]
    heads = ["bottleneck, block", *losses, "binary MMAC", "float MMAC", "size", "p50 ms", "twin: size", "p50 ms"]
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    for bottleneck, block in product(BOTTLENECKS, BLOCKS):
        cells = [f"{bottleneck}, {block}"]
        for loss in losses:
            found = [scores[run] for seed in seeds if (run := Run(seed, bottleneck, block, loss)) in scores]
            spread = f" ± {statistics.stdev(found):.2f}" if len(found) > 1 else ""
            cells.append(f"{statistics.mean(found):.2f}{spread}" if found else "–")
        facts = measured.get(f"{bottleneck}-{block}")
        if facts is None:
            cells += ["–"] * 6
        else:
            for kind in ("binary", "twin"):
                if kind == "binary":
                    cells += [f"{facts[kind]['binary_macs'] / 1e6:.1f}", f"{facts[kind]['float_macs'] / 1e6:.1f}"]
                cells += [f"{facts[kind]['bytes'] / 1e6:.2f} MB", f"{facts[kind]['p50_ms']:.2f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def measure(folder: Path, seed: int) -> dict[str, dict[str, Any]]:
    """Size, multiply-accumulates and latency of one network of every kind."""
    artifacts: dict[tuple[str, str], Path] = {}
    for bottleneck, block in product(BOTTLENECKS, BLOCKS):
        for kind, loss, target, suffix in (
            ("binary", "AWing", "lce-arm64", ".lce.tflite"),
            ("twin", TWIN, "onnx", ".onnx"),
        ):
            run = Run(seed, bottleneck, block, loss)
            out = folder / "exported"
            model = folder / run.name / f"{run.name}.pt"
            command = [sys.executable, "-m", "bihrnet_edge", "export", str(model), "--target", target]
            subprocess.run([*command, "--out", str(out)], check=True)
            artifacts[f"{bottleneck}-{block}", kind] = out / f"{run.name}{suffix}"
    report = bench(entries_of([str(path) for path in artifacts.values()], [1]))
    times = {result.model: result.p50_ms for result in report.results}
    found: dict[str, dict[str, Any]] = {}
    for (name, kind), path in artifacts.items():
        info = inspect_artifact(path)
        found.setdefault(name, {})[kind] = {
            "bytes": info.size_bytes,
            "binary_macs": info.work.binary_macs if info.work else 0,
            "float_macs": info.work.float_macs if info.work else 0,
            "p50_ms": times[str(path)],
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--measure", action="store_true")
    arguments = parser.parse_args()
    scores, seeds = whole_seeds(read_results(arguments.folder))
    if not seeds:
        sys.exit(f"ablation_table: no seed is complete in {arguments.folder}; let ablation.py run on.")
    kept = arguments.folder / "measured.json"
    if arguments.measure:
        kept.write_text(json.dumps(measure(arguments.folder, seeds[0]), indent=1) + "\n", encoding="utf-8")
    measured = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    height, width = SIZE
    print(f"seeds {seeds}, {len(scores)} networks, {height}x{width}, PCK@0.2 on LSP-extended's validation split\n")
    print(networks(scores, seeds, measured), effects(scores), sep="\n\n")


if __name__ == "__main__":
    main()
