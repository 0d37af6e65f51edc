from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bihrnet_edge.errors import UserError
from bihrnet_edge.runtimes import bench as module
from bihrnet_edge.runtimes.bench import BenchResult, bench

Make = Callable[..., Path]


def test_times_every_artifact_at_every_number_of_threads(make_tflite: Make, make_onnx: Make) -> None:
    models = [str(make_tflite()), str(make_onnx())]
    ballast = np.ones(1 << 29, np.uint8)  # 512 MiB here must not show in the child's peak
    seen: list[BenchResult] = []
    results = bench(models, threads=[1, 2], runs=5, warmup=1, progress=seen.append)
    assert results == seen
    assert [(r.model, r.threads) for r in results] == [(model, count) for model in models for count in (1, 2)]
    assert [r.runtime for r in results] == ["litert", "litert", "onnxruntime", "onnxruntime"]
    for result in results:
        assert 0 < result.min_ms <= result.p50_ms <= result.p90_ms < 1000
        assert 10 < result.peak_rss_mib < ballast.nbytes / (1 << 20)
        assert result.to_dict()["runs"] == 5
        assert (result.delegate, result.label, "profile" in result.to_dict()) == (None, result.runtime, False)


def test_a_mistake_in_the_child_is_the_users(make_tflite: Make) -> None:
    with pytest.raises(UserError, match="carries no bihrnet-edge metadata"):
        bench([str(make_tflite(text=None))], runs=1)


def test_a_crash_in_the_child_is_reported(make_tflite: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    crash = tmp_path / "python"
    crash.write_text("#!/bin/sh\nkill -SEGV $$\n")
    crash.chmod(0o755)
    monkeypatch.setattr(module.sys, "executable", str(crash))
    with pytest.raises(UserError, match="was ended by SIGSEGV"):
        bench([str(make_tflite())], runs=1)


@pytest.mark.parametrize("arguments", [{"runs": 0}, {"warmup": -1}, {"threads": [0]}])
def test_arguments(make_tflite: Make, arguments: dict[str, object]) -> None:
    with pytest.raises(UserError, match="1 or more"):
        bench([str(make_tflite())], **arguments)  # type: ignore[arg-type]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_peak_is_that_of_this_process() -> None:
    from bihrnet_edge.runtimes.bench_worker import peak_rss_mib

    resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / (1 << 20)
    assert resident <= peak_rss_mib() < 100 * resident
