"""Whether two runs of ``bench`` agree, or one of them says that the machine is noisy.

Each pair is two runs of the command one after the other, in processes of their own. Exit code 1 where the medians of a
pair are further apart than --percent and neither run warned.

example: python benchmarks/bench_agreement.py bihrnet-small-lsp.lce.tflite --pairs 5
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from bihrnet_edge.console import print_table
from bihrnet_edge.runtimes.bench.report import BenchReport, read_report


def run_bench(model: str, options: list[str]) -> BenchReport:
    """One run of the command, at its defaults but for ``options``."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "bench.json")
        command = [sys.executable, "-m", "bihrnet_edge", "bench", model, "--json", str(path), *options]
        # In the folder: from a clone, half of the package would lie in the way of the installed one.
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=folder)
        return read_report(path)


def main() -> int:
    """0 where every pair agrees or was warned about."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--percent", type=float, default=5.0, help="how far apart two medians may be")
    arguments, options = parser.parse_known_args()
    model = str(Path(arguments.model).resolve()) if Path(arguments.model).exists() else arguments.model
    rows, unexplained, warnings = [], 0, []
    for pair in range(1, arguments.pairs + 1):
        reports = [run_bench(model, options) for _ in range(2)]
        first, second = (report.results[0].p50_ms for report in reports)
        apart = 100 * (max(first, second) / min(first, second) - 1)
        warned = [bool(report.warnings) for report in reports]
        agrees = apart <= arguments.percent
        unexplained += not agrees and not any(warned)
        verdict = "agree" if agrees else "apart, and warned of" if any(warned) else "apart, and not warned of"
        rows.append([f"{pair}", f"{first:.2f}", f"{second:.2f}", f"{apart:.1f} %", f"{sum(warned)} of 2", verdict])
        warnings += [f"pair {pair}, run {i}: {text}" for i, report in enumerate(reports, 1) for text in report.warnings]
    title = f"p50 of two runs, ms: {Path(arguments.model).name} on {reports[0].machine.name}"
    print_table(title, ["pair", "first", "second", "apart", "warned", ""], rows)
    for text in warnings:
        print(text)
    return 1 if unexplained else 0


if __name__ == "__main__":
    sys.exit(main())
