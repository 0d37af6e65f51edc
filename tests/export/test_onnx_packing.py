"""Binary kernels as bits: the same floats, far fewer bytes, and nothing left to expand once the model is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from export_helpers import SMALL, FloatArray, SmallExport, random_network
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from bihrnet_edge.errors import UserError
from bihrnet_edge.export.onnx_model import export_onnx
from bihrnet_edge.export.onnx_packing import pack_binary_weights
from bihrnet_edge.export.weights import binary_magnitude
from bihrnet_edge.model.binary import BinaryConv2d
from bihrnet_edge.pose.keypoints import KeypointSet
from bihrnet_edge.pose.metadata import PoseMetadata
from bihrnet_edge.runtimes.inspect import inspect_artifact
from bihrnet_edge.runtimes.onnx_file import load_graph
from bihrnet_edge.runtimes.registry import open_runner

METADATA = PoseMetadata("test", 64, 64, KeypointSet("five", ("a", "b", "c", "d", "e")))
LEVELS = ["ORT_DISABLE_ALL", "ORT_ENABLE_BASIC", "ORT_ENABLE_EXTENDED", "ORT_ENABLE_ALL"]


@pytest.fixture(scope="module")
def forms(small: SmallExport, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("forms")
    for weights in ("packed", "plain"):
        (folder / f"{weights}.onnx").write_bytes(export_onnx(small.model, METADATA, weights))
    return {weights: folder / f"{weights}.onnx" for weights in ("packed", "plain")}


def session(model: bytes, level: str = "ORT_ENABLE_ALL", optimised: Path | None = None) -> Any:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    options.log_severity_level = 3
    if optimised is not None:
        options.optimized_model_filepath = str(optimised)
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def one_conv(kernel: FloatArray) -> onnx.ModelProto:
    """One convolution; the kernel is an output, too."""
    float32 = onnx.TensorProto.FLOAT
    outputs, channels, height, width = kernel.shape
    shapes = {"y": [1, outputs, 5 - height, 5 - width], "kernel": kernel.shape}
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"]), helper.make_node("Identity", ["w"], ["kernel"])],
        "one",
        [helper.make_tensor_value_info("x", float32, [1, channels, 4, 4])],
        [helper.make_tensor_value_info(name, float32, size) for name, size in shapes.items()],
        [numpy_helper.from_array(kernel, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@settings(deadline=None, max_examples=40)
@given(
    shape=st.tuples(st.integers(1, 5), st.integers(1, 9), st.sampled_from([1, 2, 3]), st.sampled_from([1, 3])),
    seed=st.integers(0, 2**16),
    level=st.sampled_from(LEVELS),
)
def test_the_kernel_comes_back(shape: tuple[int, int, int, int], seed: int, level: str) -> None:
    rng = np.random.default_rng(seed)
    magnitude = rng.choice([0.0, 1.0, 1e-30, 0.37], (shape[0], 1, 1, 1)) * rng.uniform(0.5, 2, (shape[0], 1, 1, 1))
    kernel = np.copysign(np.broadcast_to(magnitude, shape), rng.standard_normal(shape)).astype(np.float32)
    model = one_conv(kernel)
    per_output = kernel[0].size
    whole_bytes = kernel.size % 8 == 0 and per_output > 1
    assert pack_binary_weights(model) == (1 if whole_bytes else 0)
    onnx.checker.check_model(model, full_check=True)
    assert any(node.op_type == "Where" for node in model.graph.node) == whole_bytes
    _, loaded = session(model.SerializeToString(), level).run(None, {"x": np.zeros((1, shape[1], 4, 4), np.float32)})
    assert np.array_equal(loaded, kernel)


@pytest.mark.parametrize("level", LEVELS)
def test_packed_and_plain_give_the_same_bits(forms: dict[str, Path], small: SmallExport, level: str) -> None:
    images = {"images": np.ascontiguousarray(small.images.transpose(0, 3, 1, 2))}
    packed, plain = (
        session(forms[weights].read_bytes(), level).run(None, images)[0] for weights in ("packed", "plain")
    )
    assert packed.tobytes() == plain.tobytes()
    assert np.ptp(plain) > 0


@pytest.mark.parametrize("level", LEVELS[1:3])
def test_loading_expands_every_kernel_once(
    forms: dict[str, Path], small: SmallExport, level: str, tmp_path: Path
) -> None:
    session(forms["packed"].read_bytes(), level, tmp_path / "optimised.onnx")
    graph = onnx.load(str(tmp_path / "optimised.onnx")).graph
    assert not {node.op_type for node in graph.node} & {"Where", "Gather", "Reshape"}
    constants = {tensor.name: tensor for tensor in graph.initializer}
    kernels = [
        numpy_helper.to_array(constants[node.input[1]]) for node in graph.node if node.op_type in ("Conv", "FusedConv")
    ]
    binary = sum(isinstance(module, BinaryConv2d) for module in small.model.modules())
    assert sum(binary_magnitude(kernel) is not None for kernel in kernels) == binary > 0
    assert not any(tensor.data_type == onnx.TensorProto.UINT8 for tensor in graph.initializer)


def test_file_is_small(forms: dict[str, Path], small: SmallExport) -> None:
    weights = sum(m.weight.numel() for m in small.model.modules() if isinstance(m, BinaryConv2d))
    saved = forms["plain"].stat().st_size - forms["packed"].stat().st_size
    # 31 of a weight's 32 bits, less a kernel's four operators, names and magnitudes.
    assert 0.9 * weights * 31 / 8 < saved < weights * 31 / 8


def test_inspect_counts_the_same_in_both(forms: dict[str, Path], small: SmallExport) -> None:
    packed, plain = (inspect_artifact(forms[weights]) for weights in ("packed", "plain"))
    assert packed.work == plain.work
    assert packed.work is not None
    weights = sum(m.weight.numel() for m in small.model.modules() if isinstance(m, BinaryConv2d))
    assert packed.work.binary_parameters == weights
    assert packed.ops == plain.ops
    assert packed.size_bytes == forms["packed"].stat().st_size
    binary = sum(isinstance(module, BinaryConv2d) for module in small.model.modules())
    assert any(f"{binary} kernels are stored as bits, {weights // 8:,} bytes" in note for note in packed.notes)
    assert not any("bits" in note for note in plain.notes)


def test_a_real_valued_model_is_the_same_either_way() -> None:
    twin = random_network(SMALL.twin())
    assert export_onnx(twin, METADATA, "packed") == export_onnx(twin, METADATA, "plain")


def test_a_kernel_that_is_not_quite_binary_stays() -> None:
    kernel = np.full((2, 8, 1, 1), 0.5, np.float32)
    assert binary_magnitude(kernel) is not None
    kernel[1, 3] = np.nextafter(np.float32(0.5), np.float32(1))
    model = one_conv(kernel)
    assert pack_binary_weights(model) == 0
    assert [node.op_type for node in model.graph.node] == ["Conv", "Identity"]
    assert binary_magnitude(np.full((2, 8, 1, 1), np.nan, np.float32)) is None


@pytest.mark.parametrize("damage", ["truncated", "bits", "shape"])
def test_a_damaged_file_is_one_sentence(forms: dict[str, Path], tmp_path: Path, damage: str) -> None:
    path = tmp_path / "damaged.onnx"
    if damage == "truncated":
        path.write_bytes(forms["packed"].read_bytes()[:-1000])
    else:
        model = onnx.load(str(forms["packed"]))
        tensor = next(t for t in model.graph.initializer if t.name.endswith(f".{damage}"))
        array = numpy_helper.to_array(tensor)
        tensor.CopyFrom(numpy_helper.from_array(array[:-1] if damage == "bits" else array * 2, tensor.name))
        onnx.save(model, str(path))
    with pytest.raises(UserError, match=r"damaged\.onnx.*export it again"):
        with open_runner(str(path)) as runner:
            runner.run(np.zeros((1, 64, 64, 3), np.float32))
    if damage == "truncated":
        with pytest.raises(UserError, match="not a readable ONNX model"):
            load_graph(path)
