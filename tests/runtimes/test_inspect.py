from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bihrnet_edge.errors import UserError
from bihrnet_edge.pose.metadata import PoseMetadata
from bihrnet_edge.runtimes.inspect import inspect_artifact
from bihrnet_edge.runtimes.onnx_graph import is_binary
from bihrnet_edge.runtimes.work import Work

Make = Callable[..., Path]

ONE_CONV_MACS = 6 * 4 * 3 * (4 * 4 * 3)


@pytest.mark.parametrize("int8", [False, True])
def test_tflite(make_tflite: Make, metadata: PoseMetadata, int8: bool) -> None:
    path = make_tflite(int8=int8)
    info = inspect_artifact(path)
    assert (info.kind, info.size_bytes, info.metadata) == ("tflite", path.stat().st_size, metadata)
    assert [(t.shape, t.dtype) for t in info.inputs] == [((1, 24, 16, 3), "int8" if int8 else "float32")]
    assert [t.shape for t in info.outputs] == [((1, 6, 4, 3))]
    assert info.ops == {"CONV_2D": 1}
    assert info.work == Work(0, ONE_CONV_MACS, 0, 3 * 48 + 3)


@pytest.mark.parametrize("options", [{}, {"batch": 1}, {"channels_last": True}])
def test_onnx(make_onnx: Make, metadata: PoseMetadata, options: dict[str, Any]) -> None:
    info = inspect_artifact(make_onnx(**options))
    assert (info.kind, info.metadata) == ("onnx", metadata)
    assert info.ops is not None
    assert info.ops["Conv"] == 1
    assert info.inputs[0].shape[0] == options.get("batch", -1)
    assert info.work == Work(0, ONE_CONV_MACS, 0, 3 * 48)


def test_lce(lce_model: tuple[Path, Any]) -> None:
    info = inspect_artifact(lce_model[0])
    assert info.kind == "lce-tflite"
    assert info.ops is not None
    assert info.ops["LceBconv2d"] == 2
    assert info.work is not None
    # stem 12x8; both binary convolutions 3x3, the second strided to 6x4; head 1x1
    assert info.work.binary_macs == 12 * 8 * 32 * 9 * 64 + 6 * 4 * 32 * 9 * 32
    assert info.work.float_macs == 12 * 8 * 64 * 9 * 3 + 6 * 4 * 3 * 32
    assert info.work.binary_parameters == 32 * 9 * 64 + 32 * 9 * 32
    assert 64 * 27 + 3 * 32 < info.work.float_parameters < 64 * 27 + 3 * 32 + 400


def test_checkpoint_and_onnx_agree(tiny_checkpoint: Path, tiny_onnx: Path) -> None:
    ours, theirs = inspect_artifact(tiny_checkpoint), inspect_artifact(tiny_onnx)
    assert ours.kind == "checkpoint"
    assert ours.outputs[0].shape == (1, 14, 16, 8)
    assert ours.metadata == theirs.metadata
    assert ours.work is not None
    assert theirs.work is not None
    assert (ours.work.binary_macs, ours.work.float_macs) == (theirs.work.binary_macs, theirs.work.float_macs)
    assert ours.work.binary_parameters == theirs.work.binary_parameters > 0
    assert ours.work.float_parameters == pytest.approx(theirs.work.float_parameters, rel=0.1)  # BatchNorm is folded
    # the stem: 3x3x3 to 64 at 32x16, 3x3x64 to 64 at 16x8; the head: 1x1x32 to 14 at 16x8
    assert ours.work.float_macs == 32 * 16 * 64 * 27 + 16 * 8 * 64 * 576 + 16 * 8 * 14 * 32


@pytest.mark.slow
def test_exported_tflite_agrees_with_its_checkpoint(tiny_checkpoint: Path, tmp_path: Path) -> None:
    pytest.importorskip("larq_compute_engine")
    from bihrnet_edge.export.larq_model import build_larq_model
    from bihrnet_edge.export.lce import convert_to_lce
    from bihrnet_edge.model.checkpoint import load_checkpoint

    checkpoint = load_checkpoint(tiny_checkpoint)
    path = tmp_path / "tiny.tflite"
    path.write_bytes(convert_to_lce(build_larq_model(checkpoint.config, checkpoint.state, 64, 32)))
    ours, theirs = inspect_artifact(tiny_checkpoint).work, inspect_artifact(path).work
    assert ours is not None
    assert theirs is not None
    assert (ours.binary_macs, ours.float_macs) == (theirs.binary_macs, theirs.float_macs)
    assert ours.binary_parameters == theirs.binary_parameters
    assert ours.float_parameters == pytest.approx(theirs.float_parameters, rel=0.01)


def test_to_dict_is_json(make_tflite: Make, metadata: PoseMetadata) -> None:
    values = json.loads(json.dumps(inspect_artifact(make_tflite()).to_dict()))
    assert values["work"]["float_macs"] == ONE_CONV_MACS
    assert PoseMetadata.from_dict(values["metadata"]) == metadata


def test_file_that_is_not_ours(make_tflite: Make, make_onnx: Make) -> None:
    for path in (make_tflite(text=None), make_onnx(text=None)):
        assert inspect_artifact(path).metadata is None


def test_without_the_package_onnx(make_onnx: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_onnx()
    monkeypatch.setitem(sys.modules, "onnx", None)
    info = inspect_artifact(path)
    assert (info.ops, info.work) == (None, None)
    assert info.inputs[0].shape == (-1, 3, 24, 16)
    assert "not installed" in info.notes[0]


def test_without_torch(tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(UserError, match="needs torch, which is not installed"):
        inspect_artifact(tiny_checkpoint)


def test_kernels_of_one_magnitude_are_binary() -> None:
    rng = np.random.default_rng(0)
    sign = rng.choice([-1.0, 1.0], (4, 8, 3, 3))
    alpha = rng.uniform(0.1, 2, (4, 1, 1, 1))
    assert is_binary((sign * alpha).astype(np.float32))
    assert is_binary(sign)
    assert not is_binary(sign * alpha * rng.uniform(0.9, 1.1, sign.shape))
    assert not is_binary(np.zeros((4, 8, 3, 3)))
    assert not is_binary(alpha)  # one weight per output says nothing
