"""A bench as one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bihrnet_edge.files import make_folder, write_text
from bihrnet_edge.html import Markup, document, figure, joined, table, tag
from bihrnet_edge.runtimes.bench import plots
from bihrnet_edge.runtimes.bench.compare import Comparison
from bihrnet_edge.runtimes.bench.report import BenchReport, BenchResult
from bihrnet_edge.runtimes.profile import Profile

#: Lines of a profile's table; the picture above it has everything.
_STEPS = 25


def write_page(path: Path, report: BenchReport, comparison: Comparison | None = None, percent: float = 0.0) -> None:
    """Write the report, whole or not at all.

    Args:
        path: the HTML file.
        report: what it shows.
        comparison: with an earlier run.
        percent: slower than which is a regression.

    Raises:
        UserError: the file cannot be written.
    """
    make_folder(path.resolve().parent)
    write_text(path, render(report, comparison, percent))


def render(report: BenchReport, comparison: Comparison | None = None, percent: float = 0.0) -> str:
    """The HTML document."""
    title = f"Bench of {Path(report.results[0].model).name}"
    if len(report.results) > 1:
        title += f" and {len(report.results) - 1} more"
    return document(
        title,
        joined(
            tag("h1", title),
            tag("p", f"{report.date}, {report.machine.name}; {_turns(report)}"),
            _warnings(report.warnings),
            _latency_section(report.results),
            _ratio_section(report.results),
            _comparison_section(comparison, percent),
            _course_section(report),
            *(profile_section(result.name, result.profile) for result in report.results if result.profile),
            _machine_section(report),
        ),
    )


def _turns(report: BenchReport) -> str:
    pinned = f", pinned to the CPUs {', '.join(map(str, report.pin))}" if report.pin else ""
    return f"{report.runs} timed inferences of each in {report.rounds} turns{pinned}."


def _warnings(warnings: Sequence[str]) -> Markup:
    if not warnings:
        return tag("p", tag("span", "Nothing was seen that spoils the figures.", class_="good"))
    items = joined(*(tag("li", text) for text in warnings))
    return joined(tag("p", tag("span", "Take the figures with care:", class_="bad")), tag("ul", items))


def _latency_section(results: Sequence[BenchResult]) -> Markup:
    rows = [
        [
            result.model, result.label, result.threads, _ms(result.min_ms), _ms(result.p50_ms), _ms(result.p90_ms),
            _ms(result.p99_ms), _ms(result.first_ms), _ms(result.load_ms), _ms(result.cold_start_ms),
            "–" if result.peak_rss_mib is None else f"{result.peak_rss_mib:.0f}",
        ]
        for result in results
    ]  # fmt: skip
    columns = ["model", "runtime", "threads", "min", "p50", "p90", "p99", "first", "load", "cold start", "peak MiB"]
    note = (
        "Milliseconds. Cold start is from starting a process to its first answer, load is opening the model in it, "
        "first the first inference."
    )
    return joined(
        tag("h2", "Latency"),
        figure(plots.latencies(results), "From the fastest inference to p99 (line) and from p50 to p90 (bar)."),
        tag("p", note, class_="note"),
        table(columns, rows, class_="figures"),
    )


def _ratio_section(results: Sequence[BenchResult]) -> Markup:
    if len(results) < 2:
        return Markup("")
    rows = [[r.name, f"{r.ratio.value:.3f}", r.ratio.range] for r in results if r.ratio is not None]
    caption = f"Time over that of {results[0].name}, turn by turn; {100 * _confidence(results):g} % interval."
    return joined(
        tag("h2", "Ratios"),
        figure(plots.ratios(results), caption),
        table(["contender", "ratio", "interval"], rows, class_="figures"),
    )


def _confidence(results: Sequence[BenchResult]) -> float:
    return next(r.ratio.confidence for r in results if r.ratio is not None)


def _comparison_section(comparison: Comparison | None, percent: float) -> Markup:
    if comparison is None:
        return Markup("")
    rows: list[list[object]] = []
    for change in comparison.changes:
        slower = change.is_slower(percent)
        verdict = tag("span", "slower" if slower else "passed", class_="bad" if slower else "good")
        rows.append(
            [
                change.name, verdict, _ms(change.before_ms), _ms(change.now_ms), f"{change.ratio.value:.3f}",
                change.ratio.range,
            ]
        )  # fmt: skip
    columns = ["contender", "result", "before ms", "now ms", "ratio", "interval"]
    return joined(
        tag("h2", "Against an earlier run"),
        table(columns, rows, caption=f"More than {percent:g} % slower is a regression.", class_="figures"),
        *(tag("p", f"Only in one of the runs: {name}", class_="note") for name in comparison.unmatched),
    )


def _course_section(report: BenchReport) -> Markup:
    if report.rounds < 2:
        return Markup("")
    parts = [tag("h2", "How the run went")]
    for result in report.results:
        medians = [float(np.median(turn)) for turn in result.turns_ms]
        parts.append(figure(plots.course(medians, result.name, "ms"), f"{result.name}: median of each turn, ms"))
    for values, what, unit in (
        (report.conditions.clock_mhz, "Clock", "MHz"),
        (report.conditions.temperature_c, "Temperature", "°C"),
    ):
        if values:
            parts.append(figure(plots.course(values, what, unit), f"{what} after each round, {unit}"))
    return joined(*parts)


def profile_section(name: str, profile: Profile, heading: str = "h2") -> Markup:
    """A profile's parts as a picture, and its most expensive steps."""
    rows = [
        [s.name, f"{s.channels}×{s.height}×{s.width}", s.count, f"{s.ms:.3f}", f"{s.ms / profile.run_ms:.1%}"]
        for s in profile.by_step()[:_STEPS]
    ]
    return joined(
        tag(heading, f"Where the time of {name} goes"),
        figure(plots.shares(profile.groups()), f"{profile.run_ms:.2f} ms an inference, warming up included."),
        table(["step", "result", "count", "ms", "share"], rows, class_="figures"),
    )


def _machine_section(report: BenchReport) -> Markup:
    machine, met = report.machine, report.conditions
    facts: list[list[object]] = [
        ["processor", machine.name],
        ["system", machine.system],
        ["Python", machine.python],
        ["highest clock", ", ".join(f"{mhz:.0f} MHz" for mhz in machine.max_mhz) or "not told"],
        ["governor", ", ".join(machine.governors) or "not told"],
        ["throttling", ", ".join(met.throttling) or "none seen"],
        ["other programs", "not told" if met.others_cpus is None else f"{met.others_cpus:.2f} CPUs on average"],
        ["memory", "not told" if machine.memory_mib is None else f"{machine.memory_mib:.0f} MiB"],
        ["timed by", report.tool],
    ]
    facts += [[name, version] for name, version in machine.packages.items()]
    facts += [["note", note] for note in report.notes]
    return joined(tag("h2", "Machine"), table(["fact", "value"], facts, class_="facts"))


def _ms(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
