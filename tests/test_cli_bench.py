"""``bench`` as a person runs it: what it prints and writes, and what goes wrong."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import fails, run

Model = Callable[..., Path]
FEW = ("--runs", 4, "--rounds", 2, "--warmup", 0)


def test_prints_what_it_measured(dot_model: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, page = tmp_path / "bench.json", tmp_path / "bench.html"
    assert run("bench", dot_model("one"), "--threads", "1,2", *FEW, "--json", file, "--html", page) == 0
    report = json.loads(file.read_text())
    printed = capsys.readouterr().out
    assert [r["threads"] for r in report["results"]] == [1, 2]
    for result in report["results"]:
        assert 0 < result["min_ms"] <= result["p50_ms"] <= result["p90_ms"] <= result["p99_ms"]
        assert f"{result['p50_ms']:.2f}" in printed
        assert f"{result['p50_ms']:.2f}" in page.read_text()
    assert "4 runs in 2 turns" in printed
    assert report["machine"]["cpu"] in printed
    for warning in report["warnings"]:
        assert f"warning: {warning}" in printed


def test_the_earlier_run_is_a_gate(dot_model: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, old = dot_model("one"), tmp_path / "old.json"
    assert run("bench", model, "--runs", 40, "--json", old) == 0
    page = tmp_path / "bench.html"
    assert run("bench", model, "--runs", 40, "--compare", old, "--max-slowdown", 100_000) == 0
    assert "against the earlier run" in capsys.readouterr().out
    report = json.loads(old.read_text())
    for result in report["results"]:  # as if it had been ten times as fast
        result["turns_ms"] = [[time / 10 for time in turn] for turn in result["turns_ms"]]
        result["p50_ms"] /= 10
    old.write_text(json.dumps(report))
    kept = tmp_path / "new.json"
    arguments = ("bench", model, "--runs", 40, "--compare", old, "--json", kept, "--html", page)
    said = fails(capsys, *arguments, code=3)
    assert "times as long as before" in said
    assert "--max-slowdown 5 %" in said
    assert json.loads(kept.read_text())["results"]  # what was measured is not lost
    assert "slower" in page.read_text()
    report["machine"]["cpu"] = "another"
    old.write_text(json.dumps(report))
    assert "runs of one machine" in fails(capsys, *arguments)


def test_runs_from_the_root_of_a_clone(dot_model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """There the folder bihrnet_edge is half of the package, and must not be taken for it."""
    monkeypatch.chdir(Path(__file__).resolve().parents[1])
    assert run("bench", dot_model("one"), "--runs", 1, "--warmup", 0) == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--threads", "one"), "--threads is 'one'"),
        (("--threads", "0"), "1 or more"),
        (("--pin", "a"), "--pin is 'a'"),
        (("--pin", "3-1"), "--pin is '3-1'"),
        (("--pin", "0-99999999999"), "no CPU 99999999999"),
        (("--pin", "4000"), "--pin names the CPU 4000"),
        (("--runtime", "tvm"), "no runtime 'tvm'"),
        (("--runtime", "litert"), "litert runs no .onnx files"),
        (("--profile",), "only the native delegate has a profile"),
        (("--compare", "none.json"), "none.json cannot be read"),
        (("--json", "."), "it is a folder"),
        (("--serial", "X"), "belong to --adb"),
        (("--remote-python", "python4"), "belong to --ssh"),
        (("--ssh", "there", "--adb"), "give one of them"),
        (("--adb",), "give the one for the phone as --benchmark-model"),
        (("--html", "/proc/bench.html"), "cannot write /proc/bench.html"),
    ],
)
def test_mistakes_are_one_sentence(
    options: tuple[str, ...], said: str, dot_model: Model, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said in fails(capsys, "bench", dot_model("one"), *options)


def test_missing_and_damaged_models(dot_model: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "does not exist" in fails(capsys, "bench", tmp_path / "none.onnx")
    half = tmp_path / "half.onnx"
    half.write_bytes(dot_model("one").read_bytes()[:100])
    assert "half.onnx cannot be loaded" in fails(capsys, "bench", dot_model("one"), half)


def bench_process(model: Path, out: Path, **options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bihrnet_edge", "bench", model, *map(str, FEW), "--json", out]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload, no-any-return]


def test_a_limit_of_file_sizes(dot_model: Model, tmp_path: Path) -> None:
    """What a full disk does, without one: writing stops in the middle of the file."""
    out = tmp_path / "bench.json"
    out.write_text("kept")
    done = bench_process(
        dot_model("one"), out, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
    )
    assert done.returncode == 2
    assert "cannot write" in done.stderr.splitlines()[-1]
    assert "p50 ms" in done.stdout  # the figures are not lost
    assert out.read_text() == "kept"
    assert [path.name for path in tmp_path.iterdir()] == ["bench.json"]


def test_a_full_disk(dot_model: Model, tmp_path: Path) -> None:
    mount = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    small = f"mount -t tmpfs -o size=16k none {tmp_path} && cd {tmp_path}"
    if not shutil.which("unshare") or subprocess.run([*mount, small], capture_output=True, check=False).returncode:
        pytest.skip("a small file system cannot be mounted here")
    program = f"""{small} && echo kept >bench.json && (head -c 99999 /dev/zero >ballast 2>&-; true)
        {sys.executable} -m bihrnet_edge bench {dot_model("one")} {" ".join(map(str, FEW))} --json bench.json
        echo "code $?"; ls -A; cat bench.json"""
    environment = os.environ | {"TMPDIR": "/tmp"}
    done = subprocess.run([*mount, program], capture_output=True, text=True, check=False, env=environment)
    assert "bench.json: No space left on device; nothing was changed." in done.stderr.splitlines()[-1]
    assert done.stdout.split()[-5:] == ["code", "2", "ballast", "bench.json", "kept"]


def test_completion_in_bash(tmp_path: Path) -> None:
    """A shell that loads what --install-completion wrote completes commands and options."""
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("there is no bash")
    environment = os.environ | {
        "HOME": str(tmp_path), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }  # fmt: skip
    program = """
        bihrnet-edge --install-completion >/dev/null && . ~/.bashrc || exit 1
        complete() { COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)); _bihrnet_edge_completion "$1"; echo "${COMPREPLY[@]}"; }
        complete bihrnet-edge be
        complete bihrnet-edge bench --max-sl
        bihrnet-edge --show-completion
    """
    done = subprocess.run([bash, "-c", program], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    first, second, *script = done.stdout.splitlines()
    assert (first, second) == ("bench", "--max-slowdown")
    assert any("complete" in line and "bihrnet-edge" in line for line in script)
