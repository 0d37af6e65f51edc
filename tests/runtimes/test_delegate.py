"""Finding and loading the native delegate, and the profile that it leaves; what it computes is tested in native/."""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bihrnet_edge.runtimes
from bihrnet_edge.cli import main
from bihrnet_edge.errors import UserError
from bihrnet_edge.runtimes import delegate
from bihrnet_edge.runtimes.bench.run import bench, entries_of
from bihrnet_edge.runtimes.profile import BETWEEN, KERNELS, OUTSIDE, SCALES, Profile, read_profile
from bihrnet_edge.runtimes.registry import open_runner, runtime_for

Make = Callable[..., Path]


@pytest.fixture
def library() -> Path:
    path = delegate.find_library()
    if path is None and os.environ.get("CI") != "true":
        pytest.skip(f"this installation has no native delegate; set {delegate.LIBRARY_VARIABLE}")
    assert path is not None
    return path


def without_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(delegate.LIBRARY_VARIABLE, raising=False)
    monkeypatch.setattr(bihrnet_edge.runtimes, "__path__", [str(tmp_path)])
    monkeypatch.setattr(delegate, "_LIBRARY", Path("native", "nothing.so"))


def test_the_library_lies_beside_the_package(library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(delegate.LIBRARY_VARIABLE, raising=False)
    (tmp_path / "native").mkdir()
    copy = Path(shutil.copy(library, tmp_path / "native" / "libbihrnet_lce.so"))
    monkeypatch.setattr(bihrnet_edge.runtimes, "__path__", ["/nowhere", str(tmp_path)])
    assert delegate.find_library() == copy
    monkeypatch.setenv(delegate.LIBRARY_VARIABLE, str(library))
    assert delegate.find_library() == library.resolve()


def test_what_it_is(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = delegate.delegate_info()
    assert (info.path, info.version) == (library, "0.1.0")
    assert info.kernel in ("scalar", "avx2", "neon")
    monkeypatch.setenv("BIHRNET_LCE_KERNEL", "scalar")
    assert delegate.delegate_info().kernel == "scalar"


@pytest.mark.parametrize("content", [b"", b"hello", b"\x7fELF" + bytes(60)])
def test_a_file_that_is_no_library(content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "libbihrnet_lce.so"
    path.write_bytes(content)
    monkeypatch.setenv(delegate.LIBRARY_VARIABLE, str(path))
    with pytest.raises(UserError, match=r"the delegate .*libbihrnet_lce.so cannot be loaded \(.*\); install"):
        delegate.load()


def test_another_library(monkeypatch: pytest.MonkeyPatch) -> None:
    found = next(Path(np.__file__).parents[1].glob("numpy*/**/*.so"))
    monkeypatch.setenv(delegate.LIBRARY_VARIABLE, str(found))
    with pytest.raises(UserError, match="cannot be loaded"):
        delegate.load()


def test_no_library(make_tflite: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    importlib.import_module("bihrnet_edge.runtimes.litert_runtime")  # while there is a package to import it from
    without_library(monkeypatch, tmp_path)
    with pytest.raises(UserError, match=r"no libbihrnet_lce\.so; install bihrnet-edge again"):
        delegate.delegate_info()
    model = str(make_tflite("lce", custom="LceQuantize"))
    assert runtime_for(str(make_tflite())) == "litert"
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert runtime_for(model) == "litert"
    with pytest.raises(UserError, match=r"lce\.tflite has operators that LiteRT leaves to a delegate: .*again"):
        open_runner(model)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: "there")
    assert runtime_for(model) == "lce"
    monkeypatch.setenv(delegate.LIBRARY_VARIABLE, "/gone.so")
    with pytest.raises(UserError, match=r"BIHRNET_LCE_LIBRARY is /gone\.so, and there is no such file"):
        runtime_for(model)


@pytest.mark.parametrize(("options", "message"), [({"kernel": "sse9"}, "sse9"), ({"threads": 65}, "65")])
def test_options_that_it_refuses(library: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=rf"the delegate .* cannot be used: .*{message}.*[^.]\.$"):
        delegate.load(**options)


def test_runner(lce_model: tuple[Path, Any], library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(lce_model[0])
    assert runtime_for(path) == "litert"
    with open_runner(path) as runner:
        kernel = delegate.delegate_info().kernel
        assert (runner.name, runner.delegate, runner.label) == ("litert", kernel, f"litert + delegate ({kernel})")
        images = np.random.default_rng(0).standard_normal((2, 24, 16, 3)).astype(np.float32)
        heatmaps = runner.run(images)
    monkeypatch.setenv("BIHRNET_LCE_KERNEL", "scalar")
    with open_runner(path, threads=2) as runner:
        assert runner.label == "litert + delegate (scalar)"
        np.testing.assert_array_equal(runner.run(images), heatmaps)
    runner.close()  # twice does no harm


def test_bench_with_a_profile(lce_model: tuple[Path, Any], library: Path) -> None:
    (result,) = bench(entries_of([str(lce_model[0])], [1]), runs=4, warmup=2, profile=True).results
    profile = result.profile
    assert profile is not None
    assert (result.runtime, result.delegate, profile.kernel) == ("litert", profile.kernel, result.delegate)
    assert Profile.from_dict(json.loads(json.dumps(result.to_dict()))["profile"]) == profile
    assert sum(profile.groups().values()) == pytest.approx(profile.run_ms)
    assert sum(step.count for step in profile.by_step()) == len(profile.steps)
    assert 0 < profile.outside_convolutions < profile.outside_kernels < 1
    assert profile.delegate_ms < profile.run_ms < 1000
    # 12x8 pixels, 64 to 32 channels, then 6x4, 32 to 32
    assert sum(step.macs for step in profile.steps if step.kind == "bconv") == 96 * 9 * 64 * 32 + 24 * 9 * 32 * 32


def test_the_command_line_shows_where_the_time_goes(
    lce_model: tuple[Path, Any], library: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "bench.json"
    with pytest.raises(SystemExit, match="0"):
        main(["bench", str(lce_model[0]), "--profile", "--runs", "3", "--json", str(file)])
    (result,) = json.loads(file.read_text())["results"]
    printed = capsys.readouterr().out
    kernel = delegate.delegate_info().kernel
    assert (result["runtime"], result["delegate"], result["profile"]["kernel"]) == ("litert", kernel, kernel)
    assert f"litert + delegate ({kernel})" in printed
    lines = printed.splitlines()
    first, second = (
        next(i for i, line in enumerate(lines) if line.startswith(title)) for title in ("where the time", "fused steps")
    )
    shares = [line.split()[-1] for line in lines[first:second] if line.rstrip().endswith("%")]
    assert sum(float(share.rstrip("%")) for share in shares) == pytest.approx(100, abs=0.5)
    assert any("bconv 3x3" in line for line in lines[second:])
    table = [line for line in lines[second:] if line.strip() and not line.startswith("warning: ")]
    assert len({len(line) for line in table}) == 1, "columns line up"


def test_only_the_delegate_has_a_profile(make_tflite: Make, make_onnx: Make) -> None:
    with pytest.raises(UserError, match="no operators of Larq Compute Engine"):
        bench(entries_of([str(make_tflite())], [1]), runs=1, profile=True)
    with pytest.raises(UserError, match=r"only the native delegate has a profile; .* runs on onnxruntime"):
        bench(entries_of([str(make_onnx())], [1]), runs=1, profile=True)


WRITTEN = {
    "version": 2, "kernel": "avx2", "threads": 2,
    "regions": [
        {"nodes": 9, "arena_bytes": 100, "weight_bytes": 10, "runs": 3, "microseconds": 6000.0, "steps": [
            {"name": "load", "kind": "load", "channels": 3, "height": 4, "width": 4, "macs": 0,
             "microseconds": 500.0, "bconv_microseconds": 0.0, "scale_microseconds": 0.0},
            {"name": "bconv 3x3, 8>8", "kind": "bconv", "channels": 8, "height": 4, "width": 4, "macs": 9216,
             "microseconds": 2000.0, "bconv_microseconds": 1500.0, "scale_microseconds": 300.0},
            {"name": "bconv 3x3, 8>8", "kind": "bconv", "channels": 8, "height": 4, "width": 4, "macs": 9216,
             "microseconds": 1000.0, "bconv_microseconds": 500.0, "scale_microseconds": 600.0},
            {"name": "new", "kind": "a kind of tomorrow", "channels": 8, "height": 4, "width": 4, "macs": 0,
             "microseconds": 250.0, "bconv_microseconds": 0.0, "scale_microseconds": 0.0},
        ]},
        {"nodes": 1, "arena_bytes": 50, "weight_bytes": 0, "runs": 3, "microseconds": 1000.0, "steps": []},
    ],
}  # fmt: skip


def test_profile_adds_up(tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    path.write_text(json.dumps(WRITTEN))
    profile = read_profile(path, run_ms=10.0)
    assert (profile.nodes, profile.arena_bytes, profile.weight_bytes, profile.delegate_ms) == (10, 150, 10, 7.0)
    groups = profile.groups()
    assert groups == pytest.approx({
        BETWEEN: 3.25, OUTSIDE: 3.0, KERNELS: 2.0, SCALES: 0.8, "layout": 0.5, "PReLU, addition, sign": 0.2,
        "others of the delegate": 0.25,
    })  # fmt: skip
    assert list(groups.values()) == sorted(groups.values(), reverse=True)
    assert profile.outside_kernels == pytest.approx(0.8)
    assert profile.outside_convolutions == pytest.approx(0.72)  # no more scale than the second convolution has time
    first, second, third = profile.by_step()
    assert (first.name, first.count, first.ms, first.bconv_ms, first.macs) == ("bconv 3x3, 8>8", 2, 3.0, 2.0, 18432)
    assert first.gmacs == pytest.approx(18432 / 3e-3 / 1e9)
    assert (second.name, third.name) == ("load", "new")
    assert Profile.from_dict(json.loads(json.dumps(profile.to_dict()))) == profile
    assert dataclasses.replace(first, ms=0.0).gmacs == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "left no profile"), ("{", "left no profile"), ("{}", "left no profile"), ('{"version": 1}', "version 1")],
)
def test_profiles_that_cannot_be_read(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "profile.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=message):
        read_profile(path, 1.0)
