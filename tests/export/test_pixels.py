"""Bytes in and bytes out: the same heatmaps as from floats, and the normalisation folded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from export_helpers import tiny_checkpoint
from helpers import fails
from numpy.typing import NDArray

from bihrnet_edge.errors import UserError
from bihrnet_edge.export.larq_int8 import activation_nodes, build_int8_model
from bihrnet_edge.export.larq_model import build_larq_model
from bihrnet_edge.export.lce import convert_to_lce
from bihrnet_edge.export.pixels import TensorTypes, fold_normalisation, retype
from bihrnet_edge.export.tflite_metadata import embed_metadata
from bihrnet_edge.model.checkpoint import Checkpoint
from bihrnet_edge.model.exact import make_exact
from bihrnet_edge.pose.crop import normalise
from bihrnet_edge.runtimes.lce_runtime import LceRunner
from bihrnet_edge.runtimes.litert_runtime import LitertRunner
from bihrnet_edge.runtimes.tflite_file import parse_tflite

PIXELS: NDArray[np.uint8] = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)


@pytest.fixture(scope="module")
def exact() -> Checkpoint:
    return make_exact(tiny_checkpoint())


@pytest.fixture(scope="module", params=["float", "int8"])
def artifact(request: pytest.FixtureRequest, exact: Checkpoint) -> tuple[str, bytes]:
    if request.param == "float":
        return "float", convert_to_lce(build_larq_model(exact.config, exact.state, 32, 32))
    nodes = activation_nodes(exact.config)
    return "int8", convert_to_lce(build_int8_model(exact, {node.name: (-6.0, 6.0) for node in nodes}))


def raw(data: bytes, values: NDArray[Any]) -> NDArray[Any]:
    """What LCE's interpreter makes of one image's own bytes."""
    from larq_compute_engine.tflite.python.interpreter import Interpreter

    return np.asarray(Interpreter(data).interpreter.predict([values[None]])[0])


def test_bytes_give_the_bits_of_floats(artifact: tuple[str, bytes], exact: Checkpoint, tmp_path: Path) -> None:
    """LCE's interpreter and the delegate, fed by the runners and by hand."""
    precision, data = artifact
    images = normalise(PIXELS, exact.metadata.mean, exact.metadata.std)
    (tmp_path / "floats.lce.tflite").write_bytes(embed_metadata(data, exact.metadata))
    for kind, shift in (("uint8", 0), ("int8", 128)):
        for target in ("float32",) if precision == "float" else ("float32", "int8", "uint8"):
            made = retype(data, TensorTypes(kind, target))
            file = parse_tflite(made, Path("made"))
            source, sink = file.tensors[file.inputs[0]], file.tensors[file.outputs[0]]
            assert (source.name, source.dtype, source.scale, source.zero_point) == ("images", kind, 1 / 64, 128 - shift)
            assert (sink.name, sink.dtype) == ("heatmaps", target)
            path = tmp_path / f"{kind}-{target}.lce.tflite"
            path.write_bytes(embed_metadata(made, exact.metadata))
            for image, pixels in zip(images, PIXELS, strict=True):
                expected = raw(data, image)[0]
                given = raw(made, (pixels.astype(np.int16) - shift).astype(kind))[0]
                if target != "float32":
                    assert sink.scale is not None
                    given = (given.astype(np.float32) - sink.zero_point) * np.float32(sink.scale)
                assert np.array_equal(given, expected)
            for runtime in (LceRunner, LitertRunner):
                with runtime(str(path)) as runner, runtime(str(tmp_path / "floats.lce.tflite")) as other:
                    assert np.array_equal(runner.run(images), other.run(images))


def test_int8_graphs_convert_nothing(artifact: tuple[str, bytes]) -> None:
    """Bytes to bytes: the graph has neither end's conversion, or moves a zero point."""
    precision, data = artifact
    if precision == "float":
        with pytest.raises(UserError, match="the heatmaps are not int8"):
            retype(data, TensorTypes("float32", "int8"))
        assert parse_tflite(retype(data, TensorTypes("uint8")), Path("x")).histogram()["DEQUANTIZE"] == 1
        return
    ops = parse_tflite(retype(data, TensorTypes("int8", "int8")), Path("x")).histogram()
    assert "QUANTIZE" not in ops
    assert "DEQUANTIZE" not in ops
    ops = parse_tflite(retype(data, TensorTypes("uint8", "uint8")), Path("x")).histogram()
    assert ops["QUANTIZE"] == 2
    assert "DEQUANTIZE" not in ops
    assert retype(data, TensorTypes()) == data


def test_folded_normalisation_is_the_same_but_at_the_border(exact: Checkpoint) -> None:
    """Against the original on normalised pixels, before anything is padded."""
    original = tiny_checkpoint()
    folded = fold_normalisation(original)
    assert fold_normalisation(exact) is exact
    networks = [checkpoint.build() for checkpoint in (original, folded)]
    outputs = []
    for network, checkpoint in zip(networks, (original, folded), strict=True):
        images = normalise(PIXELS, checkpoint.metadata.mean, checkpoint.metadata.std)
        with torch.no_grad():
            outputs.append(network.stem[0](torch.from_numpy(images).permute(0, 3, 1, 2)))
    one, other = outputs
    # SAME at stride 2 pads the last row and column alone.
    assert torch.allclose(one[..., :-1, :-1], other[..., :-1, :-1], rtol=1e-4, atol=1e-4)
    assert float((one - other).abs().max()) < 1.0


def test_bad_types_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--input-type is 'int16'; choose one of float32, int8, uint8" in fails(
        capsys, "export", "bihrnet-small-lsp", "--input-type", "int16"
    )
    assert "--precision float has none of" in fails(capsys, "export", "bihrnet-small-lsp", "--output-type", "uint8")
    for targets in (["tflite"], ["onnx"], ["lce-arm64", "tflite"]):
        options = [word for target in targets for word in ("--target", target)]
        assert "are an .lce.tflite's; give --target lce-arm64" in fails(
            capsys, "export", "bihrnet-small-lsp", *options, "--input-type", "uint8"
        )
