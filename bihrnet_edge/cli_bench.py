"""The command that times: ``bench``."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bihrnet_edge.cli_options import JsonOption
from bihrnet_edge.errors import SpeedGateError, UserError

if TYPE_CHECKING:
    from bihrnet_edge.console import Step
    from bihrnet_edge.runtimes.bench.compare import Comparison
    from bihrnet_edge.runtimes.bench.process import Entry
    from bihrnet_edge.runtimes.bench.report import BenchReport, BenchResult

#: Kinds of steps that `--profile` lists; the rest is one line.
_PROFILE_LINES = 15
_THERE = "On another machine"
_PHONE = "On an Android phone"


def bench(
    artifacts: Annotated[
        list[str],
        typer.Argument(
            help="Models to time, also any other .tflite or .onnx; the first is the base.", show_default=False
        ),
    ],
    threads: Annotated[str, typer.Option(help="Thread counts, separated by commas.")] = "1",
    runs: Annotated[int, typer.Option(min=1, help="Timed inferences of each.")] = 100,
    rounds: Annotated[int, typer.Option(min=1, help="Turns that they are spread over.")] = 20,
    warmup: Annotated[
        int | None, typer.Option(min=0, help="Inferences before that; until times are steady unless given.")
    ] = None,
    runtime: Annotated[
        list[str] | None,
        typer.Option(
            "--runtime",
            help="torch, lce (LCE's own interpreter), litert or onnxruntime; may be repeated, each file runs on those "
            "that take it. Chosen from the file unless given.",
        ),
    ] = None,
    pin: Annotated[str | None, typer.Option(help="CPUs to run on, e.g. 2,3 or 0-3.")] = None,
    profile: Annotated[
        bool, typer.Option("--profile", help="Also show the time of every fused step (.lce.tflite on litert).")
    ] = False,
    compare: Annotated[
        Path | None, typer.Option(help="A result of --json; exit code 3 where something became slower since.")
    ] = None,
    max_slowdown: Annotated[float, typer.Option(min=0.0, help="Per cent that a median may grow with --compare.")] = 5.0,
    ssh: Annotated[
        str | None,
        typer.Option("--ssh", metavar="USER@HOST", help="Run there and leave nothing behind.", rich_help_panel=_THERE),
    ] = None,
    ssh_config: Annotated[Path | None, typer.Option(help="In place of ~/.ssh/config.", rich_help_panel=_THERE)] = None,
    remote_python: Annotated[
        str, typer.Option(help="Python there; what it has is used, pip adds the rest.", rich_help_panel=_THERE)
    ] = "python3",
    wheel: Annotated[
        list[Path] | None,
        typer.Option(
            "--wheel",
            help="Of bihrnet-edge for that machine, and of what else its pip shall take from here; may be repeated. "
            "What is installed here unless given.",
            rich_help_panel=_THERE,
        ),
    ] = None,
    adb: Annotated[
        bool, typer.Option("--adb", help="Run TFLite's benchmark_model on a phone.", rich_help_panel=_PHONE)
    ] = False,
    serial: Annotated[str | None, typer.Option(help="Which of several phones.", rich_help_panel=_PHONE)] = None,
    benchmark_model: Annotated[
        Path | None, typer.Option(help="The tool, built for the phone.", rich_help_panel=_PHONE)
    ] = None,
    delegate: Annotated[
        Path | None, typer.Option(help="libbihrnet_lce.so, built for the phone.", rich_help_panel=_PHONE)
    ] = None,
    json: JsonOption = None,
    html: Annotated[Path | None, typer.Option("--html", help="Also write a report with plots to this file.")] = None,
) -> None:
    """Time one inference of every model, without pre- and postprocessing; several take turns.

    Says what spoils the figures: other programs, a clock that changes, heat, times that are not steady.
    """
    from bihrnet_edge.console import progress_steps, write_json
    from bihrnet_edge.files import check_writable
    from bihrnet_edge.runtimes.bench.compare import compare_reports
    from bihrnet_edge.runtimes.bench.page import write_page
    from bihrnet_edge.runtimes.bench.report import read_report
    from bihrnet_edge.runtimes.bench.run import bench as run
    from bihrnet_edge.runtimes.bench.run import entries_of

    counts = _numbers(threads, "--threads", "1,2")
    cpus = [] if pin is None else _cpus(pin)
    before = None if compare is None else read_report(compare)
    for path in (json, html):  # before minutes of measuring, not after them
        if path is not None:
            check_writable(path)
    entries = entries_of(artifacts, counts, runtime or [])
    settings = _Settings(entries, runs, rounds, warmup, cpus, profile)
    there = ssh_config or wheel or remote_python != "python3"
    _refuse_stray(ssh is not None, "--ssh", there, "--ssh-config, --remote-python, --wheel")
    _refuse_stray(adb, "--adb", serial or benchmark_model or delegate, "--serial, --benchmark-model, --delegate")
    if adb and ssh is not None:
        raise UserError("--ssh and --adb are two machines; give one of them.")
    with progress_steps() as step:
        if ssh is not None:
            report = _bench_there(
                settings, ssh, remote_python, ssh_config, wheel or [], artifacts, threads, runtime or [], pin, step
            )
        elif adb:
            report = _bench_phone(settings, serial, benchmark_model, delegate, step)
        else:
            with step("bench") as advance:
                report = run(entries, runs, warmup, advance, rounds=rounds, profile=profile, pin=cpus)
    _print_report(report)
    if json is not None:
        write_json(json, report.to_dict())
    comparison = None if before is None else compare_reports(report, before, compare)
    if html is not None:
        write_page(html, report, comparison, max_slowdown)
        typer.echo(f"report: {html}")
    if comparison is not None:
        _print_comparison(comparison, max_slowdown)


@dataclass(frozen=True)
class _Settings:
    entries: list[Entry]
    runs: int
    rounds: int
    warmup: int | None
    pin: list[int]
    profile: bool


def _refuse_stray(given: bool, option: str, strays: object, names: str) -> None:
    if strays and not given:
        raise UserError(f"{names} belong to {option}; give it, too, or leave them out.")


def _bench_there(
    settings: _Settings, host: str, python: str, config: Path | None, wheels: list[Path],
    artifacts: list[str], threads: str, runtimes: list[str], pin: str | None, step: Step,
) -> BenchReport:  # fmt: skip
    from bihrnet_edge.runtimes.bench.ssh import Remote, bench_there

    options = ["--threads", threads, "--runs", str(settings.runs), "--rounds", str(settings.rounds)]
    options += [] if settings.warmup is None else ["--warmup", str(settings.warmup)]
    options += [] if pin is None else ["--pin", pin]
    options += [part for name in runtimes for part in ("--runtime", name)]
    options += ["--profile"] * settings.profile
    with ExitStack() as stack:

        def stage(name: str) -> None:
            stack.close()  # the step before is done
            stack.enter_context(step(name))

        return bench_there(Remote(host, python, config, tuple(wheels)), artifacts, options, stage)


def _bench_phone(
    settings: _Settings, serial: str | None, tool: Path | None, delegate: Path | None, step: Step
) -> BenchReport:
    from bihrnet_edge.runtimes.bench.adb import Phone, bench_phone

    if tool is None:
        raise UserError("--adb runs TFLite's benchmark_model; give the one for the phone as --benchmark-model.")
    if settings.profile:
        raise UserError("--profile is not to be had with --adb; leave one of them out.")
    with step("bench on the phone") as advance:
        phone = Phone(tool, delegate, serial)
        return bench_phone(
            phone, settings.entries, settings.runs, settings.rounds, settings.warmup, settings.pin, advance
        )


def _numbers(text: str, option: str, example: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise UserError(f"{option} is {text!r}; give numbers separated by commas, e.g. {example}.") from error


def _cpus(text: str) -> list[int]:
    """Numbers and ranges, as ``taskset --cpu-list`` takes them."""
    found: list[int] = []
    for part in text.split(","):
        low, dash, high = part.partition("-")
        if not low.isdecimal() or (dash and not high.isdecimal()) or (dash and int(high) < int(low)):
            raise UserError(f"--pin is {text!r}; give CPUs separated by commas, or ranges, e.g. 2,3 or 0-3.")
        if dash and int(high) > 4095:  # before a list is made of it; Linux has no more CPUs
            raise UserError(f"--pin is {text!r}; there is no CPU {high}.")
        found += range(int(low), int(high or low) + 1)
    return found


def _print_report(report: BenchReport) -> None:
    from bihrnet_edge.console import print_table

    def ms(value: float | None) -> str:
        return "-" if value is None else f"{value:.2f}"

    several = len(report.results) > 1
    columns = [
        "artifact",
        "runtime",
        "threads",
        "min ms",
        "p50 ms",
        "p90 ms",
        "p99 ms",
        "load ms",
        "cold ms",
        "MiB",
    ]
    rows = [
        [
            r.model, r.label, str(r.threads), ms(r.min_ms), ms(r.p50_ms), ms(r.p90_ms), ms(r.p99_ms), ms(r.load_ms),
            "-" if r.cold_start_ms is None else f"{r.cold_start_ms:.0f}",
            "-" if r.peak_rss_mib is None else f"{r.peak_rss_mib:.0f}",
        ]
        for r in report.results
    ]  # fmt: skip
    if several:
        columns += ["time over the first", "95 % interval"]
        for row, r in zip(rows, report.results, strict=True):
            row += ["1", ""] if r.ratio is None else [f"{r.ratio.value:.3f}", r.ratio.range]
    typer.echo(report.machine.name)
    print_table(f"one inference, {report.runs} runs in {report.rounds} turns", columns, rows)
    for result in report.results:
        _print_profile(result)
    for note in report.notes:
        typer.echo(f"note: {note}")
    for warning in report.warnings:
        typer.echo(f"warning: {warning}")


def _print_comparison(comparison: Comparison, percent: float) -> None:
    """Also raises :class:`SpeedGateError` where something became slower."""
    from bihrnet_edge.console import print_table

    slower = comparison.regressions(percent)
    print_table(
        "against the earlier run",
        ["contender", "before ms", "now ms", "ratio", "95 % interval", ""],
        [
            [change.name, f"{change.before_ms:.2f}", f"{change.now_ms:.2f}", f"{change.ratio.value:.3f}",
             change.ratio.range, "slower" if change in slower else ""]
            for change in comparison.changes
        ],
    )  # fmt: skip
    for name in comparison.unmatched:
        typer.echo(f"note: only in one of the runs: {name}")
    if slower:
        worst = max(slower, key=lambda change: change.ratio.value)
        raise SpeedGateError(
            f"{worst.name} takes {worst.ratio.value:.3f} times as long as before (95 % interval "
            f"{worst.ratio.range}), more than --max-slowdown {percent:g} % allows."
        )


def _print_profile(result: BenchResult) -> None:
    from bihrnet_edge.console import print_table

    if (profile := result.profile) is None:
        return
    typer.echo(
        f"{result.model}, threads: {result.threads}; {profile.nodes} operators in {len(profile.steps)} fused steps, "
        f"{profile.kernel} kernels; {profile.run_ms:.2f} ms a run, means that count warming up"
    )
    print_table(
        "where the time goes",
        ["part", "ms", "share"],
        [[name, f"{ms:.3f}", f"{ms / profile.run_ms:.1%}"] for name, ms in profile.groups().items()],
    )
    steps = profile.by_step()

    def row(name: str, result: str, count: int, ms: float, speed: str) -> list[str]:
        return [name, result, str(count), f"{ms:.3f}", f"{ms / profile.run_ms:.1%}", speed]

    rows = [
        row(s.name, f"{s.channels}×{s.height}×{s.width}", s.count, s.ms, f"{s.gmacs:.0f}" if s.macs else "-")
        for s in steps[:_PROFILE_LINES]
    ]
    if rest := steps[_PROFILE_LINES:]:
        rows.append(row(f"… {len(rest)} others", "", sum(s.count for s in rest), sum(s.ms for s in rest), ""))
    print_table("fused steps, most expensive first", ["step", "result", "count", "ms", "share", "GMAC/s"], rows)
