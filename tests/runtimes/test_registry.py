from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bihrnet_edge.errors import UserError
from bihrnet_edge.pose.metadata import PoseMetadata
from bihrnet_edge.runtimes.registry import open_runner, runtime_for

Make = Callable[..., Path]


def test_runtime_follows_the_file(make_tflite: Make, make_onnx: Make) -> None:
    assert runtime_for(str(make_tflite())) == "litert"
    assert runtime_for(str(make_onnx())) == "onnxruntime"
    assert runtime_for("model.pt") == "torch"


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("nosuchname", "nosuchname is no model that bihrnet-edge knows"),
        ("photo.jpg", "give a .pt, .onnx or .tflite file"),
        ("gone.tflite", "gone.tflite cannot be read"),
        ("gone.onnx", "gone.onnx does not exist"),
        ("gone.pt", "gone.pt does not exist"),
    ],
)
def test_models_that_are_not_there(model: str, message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        open_runner(model)


def test_folder(tmp_path: Path) -> None:
    folder = tmp_path / "model.tflite"
    folder.mkdir()
    with pytest.raises(UserError, match="is no model"):
        open_runner(str(folder))


@pytest.mark.parametrize(
    ("suffix", "message"),
    [("tflite", "not a TFLite model"), ("onnx", "cannot be loaded by ONNX Runtime"), ("pt", "not a torch file")],
)
@pytest.mark.parametrize("content", [b"", b"hello", bytes(5000), b"\xff" * 300])
def test_foreign_files(tmp_path: Path, suffix: str, message: str, content: bytes) -> None:
    path = tmp_path / f"foreign.{suffix}"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        open_runner(str(path))


def test_without_metadata(make_tflite: Make, make_onnx: Make) -> None:
    for path in (make_tflite(text=None), make_onnx(text=None)):
        with pytest.raises(UserError, match="carries no bihrnet-edge metadata"):
            open_runner(str(path))


def test_metadata_that_contradicts_the_file(make_tflite: Make, make_onnx: Make, metadata: PoseMetadata) -> None:
    wider = dataclasses.replace(metadata, input_width=32).to_json()
    finer = dataclasses.replace(metadata, heatmap_stride=2).to_json()
    for make in (make_tflite, make_onnx):
        with pytest.raises(UserError, match="its input has shape"):
            open_runner(str(make(text=wider)))
        with pytest.raises(UserError, match="its output has shape"):
            open_runner(str(make(text=finer)))
        with pytest.raises(UserError, match="metadata is not JSON"):
            open_runner(str(make(text="{")))


def test_arguments(make_tflite: Make, make_onnx: Make) -> None:
    path = str(make_tflite())
    with pytest.raises(UserError, match="there is no runtime 'tensorrt'; choose one of torch, lce"):
        open_runner(path, runtime="tensorrt")
    with pytest.raises(UserError, match=r"the runtime onnxruntime runs \.onnx files"):
        open_runner(path, runtime="onnxruntime")
    for model in (path, str(make_onnx())):
        with pytest.raises(UserError, match="number of threads is 0"):
            open_runner(model, threads=0)


def test_custom_operators(make_tflite: Make) -> None:
    for name in ("Foo", "LceFoo"):
        for runtime, called in (("litert", "LiteRT"), ("lce", "Larq Compute Engine")):
            with pytest.raises(UserError, match=f"uses {name}, which {called} does not have"):
                open_runner(str(make_tflite("foo", custom=name)), runtime=runtime)


def test_missing_package(make_tflite: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("larq_compute_engine")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "larq_compute_engine", None)
    with pytest.raises(UserError, match=r"needs larq_compute_engine, which is not installed; .*pip install"):
        open_runner(str(make_tflite("lce", custom="LceQuantize")), runtime="lce")


def test_a_device_needs_neither_torch_nor_tensorflow(make_tflite: Make, make_onnx: Make) -> None:
    """The base installation can open, run, inspect and evaluate."""
    script = f"""
import sys
import numpy as np
import bihrnet_edge.runtimes.bench, bihrnet_edge.runtimes.evaluate, bihrnet_edge.runtimes.inspect
import bihrnet_edge.data.dataset, bihrnet_edge.metrics.pck, bihrnet_edge.pose.draw
from bihrnet_edge.runtimes.registry import open_runner
assert not {{"onnxruntime", "ai_edge_litert", "onnx"}} & set(sys.modules), "start-up must stay light"
for path in ({str(make_tflite())!r}, {str(make_onnx())!r}):
    open_runner(path).run(np.zeros((1, 24, 16, 3), np.float32))
heavy = {{"torch", "tensorflow", "larq", "larq_compute_engine", "onnx"}} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", script], check=True)
