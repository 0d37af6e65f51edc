from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bihrnet_edge.errors import UserError
from bihrnet_edge.runtimes.bench import process as process_module
from bihrnet_edge.runtimes.bench.process import Entry
from bihrnet_edge.runtimes.bench.report import BenchReport
from bihrnet_edge.runtimes.bench.run import bench, entries_of
from bihrnet_edge.runtimes.bench.statistics import paired_ratio
from bihrnet_edge.runtimes.bench.timed import open_timed
from bihrnet_edge.runtimes.bench.worker import peak_rss_mib, time_calls

Make = Callable[..., Path]


def test_times_every_artifact_at_every_number_of_threads(make_tflite: Make, make_onnx: Make) -> None:
    models = [str(make_tflite()), str(make_onnx())]
    ballast = np.ones(1 << 29, np.uint8)  # 512 MiB here must not show in the child's peak
    seen: list[tuple[int, int]] = []
    entries = entries_of(models, [1, 2])
    report = bench(entries, 7, 1, lambda done, total: seen.append((done, total)), rounds=3)
    results = report.results
    assert seen == [(done, 11) for done in range(1, 12)]
    assert [(r.model, r.threads) for r in results] == [(model, count) for model in models for count in (1, 2)]
    assert [r.runtime for r in results] == ["litert", "litert", "onnxruntime", "onnxruntime"]
    for result in results:
        assert [len(turn) for turn in result.turns_ms] == [2, 2, 3]
        times = np.concatenate(result.turns_ms)
        assert 0 < result.min_ms == times.min() <= result.p50_ms == np.median(times)
        assert result.p90_ms is not None
        assert result.p99_ms is not None
        assert result.p50_ms <= result.p90_ms <= result.p99_ms <= times.max() < 1000
        assert result.peak_rss_mib is not None
        assert 10 < result.peak_rss_mib < ballast.nbytes / (1 << 20)
        assert result.cold_start_ms is not None
        assert 0 < result.load_ms + result.first_ms < result.cold_start_ms
        assert (result.delegate, result.label, "profile" in result.to_dict()) == (None, result.runtime, False)
        assert (result.steady, result.warmup_runs, result.to_dict()["runs"]) == (None, 1, 7)
    medians = [[float(np.median(turn)) for turn in result.turns_ms] for result in results]
    assert [r.ratio for r in results] == [None, *(paired_ratio(times, medians[0]) for times in medians[1:])]
    assert BenchReport.from_dict(json.loads(json.dumps(report.to_dict()))) == _rounded(report)


def _rounded(report: BenchReport) -> BenchReport:
    """Single times are written to the nanosecond."""
    results = tuple(
        dataclasses.replace(r, turns_ms=tuple(tuple(round(time, 6) for time in turn) for turn in r.turns_ms))
        for r in report.results
    )
    return dataclasses.replace(report, results=results)


def test_warming_up_ends_where_times_are_steady(make_tflite: Make) -> None:
    (result,) = bench([Entry(str(make_tflite()))], 2).results
    assert result.warmup_runs > 3
    assert result.steady in (True, False)  # which is the machine's doing
    assert result.ratio is None
    assert len(result.turns_ms) == 2


@pytest.mark.parametrize("kind", ["tflite", "onnx"])
def test_models_of_others_are_timed_too(kind: str, make_tflite: Make, make_onnx: Make) -> None:
    model = make_tflite(text=None) if kind == "tflite" else make_onnx(text=None, batch="any")
    (result,) = bench([Entry(str(model))], 3, 0).results
    assert result.runtime == {"tflite": "litert", "onnx": "onnxruntime"}[kind]
    assert result.p50_ms > 0


def test_the_delegate_runs_others_lce_models(lce_model: tuple[Path, Any], make_onnx: Make, tmp_path: Path) -> None:
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(lce_model[0].read_bytes(), 0)
    model.metadata = []
    path = tmp_path / "foreign.tflite"
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    first, second = bench([Entry(str(path)), Entry(str(make_onnx()))], 3, 0, profile=True).results
    assert first.delegate is not None
    assert first.profile is not None
    assert first.profile.run_ms > first.profile.delegate_ms > 0
    assert (second.runtime, second.delegate, second.profile) == ("onnxruntime", None, None)
    # In this process, which has TensorFlow already: the two runtimes get the same input and give the same answer.
    answers: list[Any] = []
    for runtime in ("litert", "lce"):
        timed = open_timed(str(path), 1, runtime)
        timed.invoke()
        answers.append(timed.output())
        timed.close()
    np.testing.assert_allclose(answers[0][0], answers[1][0], atol=1e-5 * np.ptp(answers[1][0]))


def test_files_that_no_runtime_runs(make_tflite: Make, make_onnx: Make) -> None:
    with pytest.raises(UserError, match=r"one\.tflite cannot be loaded|cannot be run by LiteRT|does not have"):
        bench([Entry(str(make_tflite(text=None, custom="Foreign")))], 1)
    onnx = pytest.importorskip("onnx")
    huge = onnx.load(str(make_onnx(text=None)))
    for dim in huge.graph.input[0].type.tensor_type.shape.dim:
        dim.dim_value = 1 << 20
    path = make_onnx(text=None)
    onnx.save(huge, str(path))
    with pytest.raises(UserError, match=r"fixed and reasonable size|cannot be loaded"):
        bench([Entry(str(path))], 1)


def test_artifacts_times_runtimes(make_tflite: Make, make_onnx: Make) -> None:
    tflite, onnx = str(make_tflite()), str(make_onnx())
    assert entries_of([tflite, onnx], [2], ["lce", "litert", "onnxruntime"]) == [
        Entry(tflite, "lce", 2), Entry(tflite, "litert", 2), Entry(onnx, "onnxruntime", 2),
    ]  # fmt: skip
    with pytest.raises(UserError, match=r"litert runs no \.onnx files"):
        entries_of([tflite, onnx], [1], ["litert"])
    with pytest.raises(UserError, match="no runtime 'tvm'"):
        entries_of([tflite], [1], ["tvm"])
    with pytest.raises(UserError, match="1 or more"):
        entries_of([tflite], [1, 0])


def test_a_crash_in_the_child_is_reported(make_tflite: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    crash = tmp_path / "python"
    crash.write_text("#!/bin/sh\nkill -SEGV $$\n")
    crash.chmod(0o755)
    monkeypatch.setattr(process_module.sys, "executable", str(crash))
    with pytest.raises(UserError, match="was ended by SIGSEGV"):
        bench([Entry(str(make_tflite()))], 1)


def test_a_crash_in_a_turn_is_reported_and_ends_the_others(make_tflite: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    started = []
    start = process_module.Contender.__init__

    def remember(self: Any, *arguments: Any, **options: Any) -> None:
        start(self, *arguments, **options)
        started.append(self._process)

    def crash(done: int, total: int) -> None:
        if done == total // 2 + 2:
            os.kill(started[1].pid, signal.SIGKILL)
            started[1].wait()

    monkeypatch.setattr(process_module.Contender, "__init__", remember)
    with pytest.raises(UserError, match=r"with 2 threads failed \(was ended by SIGKILL\)"):
        bench(entries_of([str(make_tflite())], [1, 2]), 50, 1, crash)
    assert [process.poll() is not None for process in started] == [True, True]


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system does not pin")
def test_pinning(make_tflite: Make) -> None:
    cpu = max(os.sched_getaffinity(0))
    report = bench(entries_of([str(make_tflite())], [1, 2]), 2, 0, pin=[cpu])
    assert report.pin == (cpu,)
    assert any("2 threads on 1 core" in warning for warning in report.warnings)
    with pytest.raises(UserError, match="--pin names the CPU 4000"):
        bench([Entry(str(make_tflite()))], 2, 0, pin=[cpu, 4000])


@pytest.mark.parametrize("arguments", [{"runs": 0}, {"warmup": -1}, {"rounds": 0}, {"entries": []}])
def test_arguments(make_tflite: Make, arguments: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="1 or more"):
        bench(**{"entries": [Entry(str(make_tflite()))], **arguments})


def test_the_bench_itself_takes_less_than_a_hundredth_of_ten_milliseconds() -> None:
    """By a network that takes 1 ms to the reading of the clock: short, and medians, since the machine may be busy."""
    clock, wanted, most_ms = time.perf_counter_ns, 1_000_000, 0.01 * 10

    def network() -> None:
        end = clock() + wanted
        while clock() < end:
            pass

    times = time_calls(network, 300)
    assert 1 <= np.median(times) < 1 + most_ms
    begins: list[int] = []

    def noted() -> None:
        begins.append(clock())
        network()

    time_calls(noted, 300)  # from one begin to the next is the network and all that the bench does
    assert 1 <= np.median(np.diff(begins)) / 1e6 < 1 + most_ms


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_peak_is_that_of_this_process() -> None:
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / (1 << 20)
    assert resident <= peak_rss_mib() < 100 * resident


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_killed_in_the_middle_it_leaves_nothing(number: int, make_tflite: Make, tmp_path: Path) -> None:
    (tmp_path / "old.json").write_text("kept")
    model, temporary = make_tflite(), tmp_path / "temporary"
    temporary.mkdir()
    bench = subprocess.Popen(
        [sys.executable, "-m", "bihrnet_edge", "bench", model, "--runs", "100000000", "--rounds", "1000000",
         "--json", tmp_path / "old.json"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | {"TMPDIR": str(temporary)},
    )  # fmt: skip
    children: list[int] = []
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and not any(temporary.iterdir()):
        time.sleep(0.05)
        children = [int(pid) for pid in Path(f"/proc/{bench.pid}/task/{bench.pid}/children").read_text().split()]
    time.sleep(0.5)
    bench.send_signal(number)
    said = bench.communicate(timeout=300)[1]
    assert bench.returncode == {signal.SIGINT: 130, signal.SIGKILL: -signal.SIGKILL}[number]
    assert ("nothing half-written was left" in said) == (number == signal.SIGINT)
    assert (tmp_path / "old.json").read_text() == "kept"
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and any(Path(f"/proc/{pid}").exists() for pid in children):
        time.sleep(0.1)
    assert not any(Path(f"/proc/{pid}").exists() for pid in children)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["old.json", "temporary"]
    assert not any(path.suffix == ".json" for path in temporary.rglob("*"))
