"""The package as it is installed."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import bihrnet_edge
from bihrnet_edge.native_output import silenced_stderr

ROOT = Path(__file__).resolve().parents[1]
LIGHT = ("bihrnet_edge.runtimes.registry", "bihrnet_edge.runtimes.evaluate",
         "bihrnet_edge.runtimes.bench.run", "bihrnet_edge.runtimes.bench.page", "bihrnet_edge.runtimes.bench.ssh",
         "bihrnet_edge.runtimes.predict", "bihrnet_edge.runtimes.inspect", "bihrnet_edge.metrics.pck",
         "bihrnet_edge.metrics.pckh", "bihrnet_edge.metrics.oks", "bihrnet_edge.metrics.nms",
         "bihrnet_edge.data.dataset", "bihrnet_edge.data.detections", "bihrnet_edge.doctor",
         "bihrnet_edge.calibration.verification", "bihrnet_edge.calibration.check")  # fmt: skip


@pytest.mark.skipif(os.environ.get("CI") != "true", reason="an editable install is fine outside CI")
def test_ci_tests_the_installed_wheel() -> None:
    assert ROOT not in Path(bihrnet_edge.__file__).resolve().parents


def test_what_a_raspberry_pi_runs_imports_neither_torch_nor_tensorflow() -> None:
    program = f"import sys\nfor name in {LIGHT}: __import__(name)\n"
    program += "print([m for m in ('torch', 'tensorflow', 'larq', 'onnx') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


#: Folder to the parts of the package it may import; its own is always allowed.
ALLOWED = {
    "bihrnet_edge/pose": set(),
    "bihrnet_edge/model": {"pose"},
    "bihrnet_edge/data": {"pose"},
    "bihrnet_edge/metrics": {"pose", "data"},
    "bihrnet_edge/training": {"pose", "model", "data", "metrics"},
    "runtimes": {"pose", "model", "data", "metrics"},
    "calibration": {"pose", "model", "data", "metrics", "runtimes"},
    "export": {"pose", "model", "data", "metrics", "runtimes", "calibration"},
}
COMMON = {"errors", "files", "console", "native_output", "html"}


@pytest.mark.parametrize("folder", sorted(ALLOWED))
def test_imports_go_one_way(folder: str) -> None:
    files = list((ROOT / folder).rglob("*.py"))
    assert files
    for path in files:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                if name.startswith("bihrnet_edge."):
                    part = name.split(".")[1]
                    assert part in ALLOWED[folder] | COMMON | {Path(folder).name}, f"{path} imports {name}"


def test_silenced_stderr_swallows_and_gives_back(capfd: pytest.CaptureFixture[str]) -> None:
    with silenced_stderr():
        os.write(2, b"chatter\n")
    assert capfd.readouterr().err == ""
    with pytest.raises(ValueError, match="x"), silenced_stderr():
        os.write(2, b"reason\n")
        raise ValueError("x")
    assert capfd.readouterr().err == "reason\n"
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "after\n"
