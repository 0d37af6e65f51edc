from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bihrnet_edge.errors import UserError
from bihrnet_edge.pose.keypoints import MPII
from bihrnet_edge.pose.metadata import METADATA_KEY, PoseMetadata
from bihrnet_edge.runtimes import delegate
from bihrnet_edge.runtimes.base import Quantization, Runner
from bihrnet_edge.runtimes.registry import open_runner

Images = NDArray[np.float32]
Network = Callable[[Images], NDArray[np.float32]]


def check(runner: Runner, network: Network, images: Images, tolerance: float) -> None:
    """One image, several, none; and the three steps apart."""
    expected = network(images)
    heatmaps = runner.run(images)
    assert heatmaps.dtype == np.float32
    np.testing.assert_allclose(heatmaps, expected, atol=tolerance)
    np.testing.assert_allclose(runner.run(images[1:2]), expected[1:2], atol=tolerance)
    assert runner.run(images[:0]).shape == (0, *expected.shape[1:])
    one = np.repeat(images[2:], runner.batch or 1, axis=0)
    runner.prepare(one)
    runner.invoke()
    runner.invoke()
    first = runner.heatmaps()
    np.testing.assert_allclose(first[0], expected[2], atol=tolerance)
    runner.prepare(np.zeros_like(one))
    runner.invoke()
    np.testing.assert_allclose(first[0], expected[2], atol=tolerance, err_msg="heatmaps() must be a copy")


@pytest.mark.parametrize(
    "options", [{}, {"batch": 1}, {"batch": 2}, {"channels_last": True}, {"channels_last": True, "batch": 4}]
)
def test_onnx(make_onnx: Any, network: Network, images: Images, options: dict[str, Any]) -> None:
    with open_runner(str(make_onnx(**options)), threads=2) as runner:
        assert runner.name == "onnxruntime"
        check(runner, network, images, 1e-4)


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("runtime", [None, "lce"])
def test_tflite(make_tflite: Any, network: Network, images: Images, runtime: str | None, batch: int) -> None:
    if runtime == "lce":
        pytest.importorskip("larq_compute_engine")
    with open_runner(str(make_tflite(batch=batch)), runtime=runtime) as runner:
        assert runner.name == (runtime or "litert")
        check(runner, network, images, 1e-4)


@pytest.mark.parametrize("runtime", ["litert", "lce"])
def test_int8_tflite(make_tflite: Any, network: Network, images: Images, runtime: str) -> None:
    if runtime == "lce":
        pytest.importorskip("larq_compute_engine")
    with open_runner(str(make_tflite("int8", int8=True)), runtime=runtime) as runner:
        # 48 products with inputs to 1/64, then half an output step of 1/4
        check(runner, network, images, 0.5)
        assert set(np.unique(runner.run(images) * 4 % 1)) == {0.0}


@pytest.mark.parametrize("runtime", ["litert", "lce"])
def test_lce(lce_model: tuple[Path, Any], images: Images, runtime: str) -> None:
    if runtime == "litert" and delegate.find_library() is None:
        pytest.skip("this installation has no native delegate")
    path, keras = lce_model

    def network(batch: Images) -> NDArray[np.float32]:
        outputs = np.concatenate([keras(image[None], training=False).numpy() for image in batch])
        return outputs.transpose(0, 3, 1, 2)

    with open_runner(str(path), runtime=runtime) as runner:
        assert runner.name == runtime
        check(runner, network, images, 1e-4)


def test_torch_and_onnx_agree(tiny_checkpoint: Path, tiny_onnx: Path) -> None:
    images = np.random.default_rng(0).standard_normal((3, 64, 32, 3)).astype(np.float32)
    with open_runner(str(tiny_checkpoint)) as ours, open_runner(str(tiny_onnx)) as theirs:
        assert ours.metadata == theirs.metadata
        assert ours.name == "torch"
        reference = theirs.run(images)
        check(ours, lambda batch: theirs.run(batch), images, 1e-4)
        np.testing.assert_allclose(ours.run(images), reference, atol=1e-4)


@pytest.mark.parametrize("shape", [(24, 16, 3), (1, 16, 24, 3), (1, 3, 24, 16)])
def test_images_of_another_size(make_tflite: Any, shape: tuple[int, ...]) -> None:
    with (
        open_runner(str(make_tflite())) as runner,
        pytest.raises(ValueError, match=r"the model takes \(N, 24, 16, 3\)"),
    ):
        runner.run(np.zeros(shape, np.float32))


@pytest.mark.parametrize("runtime", ["litert", "lce", "onnxruntime"])
def test_layout_that_shapes_cannot_tell(make_tflite: Any, make_onnx: Any, runtime: str) -> None:
    """16 joints of a 64x64 input have heatmaps of 16x16x16: a TFLite graph keeps channels last, an ONNX graph first."""
    if runtime == "lce":
        pytest.importorskip("larq_compute_engine")
    metadata = PoseMetadata("cube", 64, 64, MPII)
    kernel = np.random.default_rng(0).standard_normal((16, 4, 4, 3)).astype(np.float32)
    make = make_onnx if runtime == "onnxruntime" else make_tflite
    path = make("cube", kernel=kernel, size=(64, 64), text=metadata.to_json())
    images = np.random.default_rng(1).standard_normal((1, 64, 64, 3)).astype(np.float32)
    patches = images.reshape(1, 16, 4, 16, 4, 3)
    with open_runner(str(path), runtime=runtime) as runner:
        assert runner.heatmap_shape == (16, 16, 16)
        expected = np.einsum("nyixjc,oijc->noyx", patches, kernel)
        np.testing.assert_allclose(runner.run(images), expected, atol=1e-3)


def test_onnx_that_fails_while_it_runs(tmp_path: Path, metadata: PoseMetadata) -> None:
    """A file that loads: that its Gather leaves the joints is seen only when it runs."""
    onnx = pytest.importorskip("onnx")
    helper, float32 = onnx.helper, onnx.TensorProto.FLOAT
    nodes = [
        helper.make_node("AveragePool", ["images"], ["small"], kernel_shape=[4, 4], strides=[4, 4]),
        helper.make_node("ReduceMean", ["images"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "large"], ["far"]),
        helper.make_node("Cast", ["far"], ["index"], to=onnx.TensorProto.INT64),
        helper.make_node("Gather", ["small", "index"], ["heatmaps"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("images", float32, [1, 3, 24, 16])],
        [helper.make_tensor_value_info("heatmaps", float32, [1, 3, 6, 4])],
        [onnx.numpy_helper.from_array(np.array([0, 0, 1000], np.float32), "large")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    helper.set_model_props(model, {METADATA_KEY: metadata.to_json()})
    path = tmp_path / "fails.onnx"
    onnx.save(model, str(path))
    with open_runner(str(path)) as runner:
        runner.run(np.zeros((1, 24, 16, 3), np.float32))
        with pytest.raises(UserError, match=r"ONNX Runtime failed while running .*fails\.onnx"):
            runner.run(np.ones((1, 24, 16, 3), np.float32))


def test_quantization_rounds_and_saturates() -> None:
    quantization = Quantization(np.dtype(np.int8), 0.5, 3)
    encoded = quantization.encode(np.array([0, 0.24, 0.26, -1, 1000, -1000], np.float32))
    assert encoded.tolist() == [3, 3, 4, 1, 127, -128]
    assert encoded.dtype == np.int8
    assert quantization.decode(encoded)[:4].tolist() == [0, 0, 0.5, -1]
