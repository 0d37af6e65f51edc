from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bihrnet_edge.errors import UserError
from bihrnet_edge.pose.metadata import PoseMetadata
from bihrnet_edge.runtimes.tflite_file import flex_options, read_metadata, read_tflite

Make = Callable[..., Path]


def mutilate(data: bytes, seed: int) -> bytes:
    """Truncated, overwritten with zeros, or with some bits flipped."""
    rng, broken = random.Random(seed), bytearray(data)
    if seed % 3 == 0:
        return data[: rng.randrange(len(data))]
    if seed % 3 == 1:
        start = rng.randrange(len(data))
        broken[start : start + 64] = bytes(len(broken[start : start + 64]))
    else:
        for _ in range(rng.randrange(1, 8)):
            broken[rng.randrange(8, len(data))] ^= 1 << rng.randrange(8)
    return bytes(broken)


def test_reads_a_graph(make_tflite: Make, metadata: PoseMetadata) -> None:
    path = make_tflite("int8", int8=True)
    file = read_tflite(path)
    assert (file.size, file.metadata) == (path.stat().st_size, metadata)
    assert file.histogram() == {"CONV_2D": 1}
    assert (file.inputs, file.outputs, file.custom_ops, file.needs_lce) == ((0,), (3,), set(), False)
    source, kernel, bias, _ = file.tensors
    assert (source.name, source.shape, source.dtype, source.scale, source.zero_point) == (
        "images", (1, 24, 16, 3), "int8", 1 / 32, 0,
    )  # fmt: skip
    assert source.data is None
    assert kernel.data is not None
    assert abs(kernel.data).max() == 127
    assert (bias.dtype, bias.shape) == ("int32", (3,))
    assert file.operators[0].inputs == (0, 1, 2)


def test_agrees_with_the_generated_reader(lce_model: tuple[Path, Any]) -> None:
    """The schema's own Python reader, which trusts the file, sees the same in a sound one."""
    from ai_edge_litert import schema_py_generated as schema

    file = read_tflite(lce_model[0])
    model = schema.ModelT.InitFromPackedBuf(lce_model[0].read_bytes(), 0)
    (graph,) = model.subgraphs
    assert [tensor.name for tensor in file.tensors] == [tensor.name.decode() for tensor in graph.tensors]
    assert [list(op.inputs) for op in file.operators] == [list(op.inputs) for op in graph.operators]
    for ours, theirs in zip(file.tensors, graph.tensors, strict=True):
        assert list(ours.shape) == ([] if theirs.shape is None else list(theirs.shape))
        stored = model.buffers[theirs.buffer].data
        assert (ours.data is None) == (stored is None)
        if ours.data is not None:
            assert ours.data.tobytes() == np.asarray(stored, np.uint8).tobytes()
    assert file.histogram()["LceBconv2d"] == 2
    assert file.needs_lce
    bconvs = [op for op in file.operators if op.name == "LceBconv2d"]
    assert [flex_options(op)["channels_in"] for op in bconvs] == [64, 32]
    assert [flex_options(op)["pad_values"] for op in bconvs] == [1, 1]


def test_no_metadata(make_tflite: Make) -> None:
    assert read_metadata(make_tflite(text=None)) is None


def test_every_truncation_is_noticed(make_tflite: Make, tmp_path: Path) -> None:
    data, path = make_tflite().read_bytes(), tmp_path / "cut.tflite"
    for size in range(0, len(data), 7):
        path.write_bytes(data[:size])
        with pytest.raises(UserError, match=r"cut\.tflite"):
            read_tflite(path)


@pytest.mark.parametrize("which", ["make_tflite", "lce_model"])
def test_damage_gives_an_error_or_a_graph(which: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Whatever the bytes, nothing but a UserError comes out; most damage is noticed."""
    fixture = request.getfixturevalue(which)
    data = (fixture() if callable(fixture) else fixture[0]).read_bytes()
    path, noticed = tmp_path / "broken.tflite", 0
    for seed in range(400):
        path.write_bytes(mutilate(data, seed))
        try:
            read_tflite(path)
        except UserError as error:
            noticed += "broken.tflite" in str(error)
    assert noticed > 150


def test_damaged_files_do_not_take_the_process_down(make_tflite: Make, tmp_path: Path) -> None:
    """The interpreter itself crashes on half of these."""
    for seed in range(150):
        (tmp_path / f"{seed}.tflite").write_bytes(mutilate(make_tflite().read_bytes(), seed))
    script = f"""
import numpy as np, pathlib
from bihrnet_edge.errors import UserError
from bihrnet_edge.runtimes.registry import open_runner
for path in sorted(pathlib.Path({str(tmp_path)!r}).glob("*.tflite")):
    try:
        with open_runner(str(path)) as runner:
            runner.run(np.zeros((1, 24, 16, 3), np.float32))
    except UserError:
        pass
"""
    child = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert child.returncode == 0, child.stderr[-2000:]
