"""Artifacts small enough to be made for every test run.

Most have one convolution of known weights, stride 4, from 16x24 images to heatmaps of three joints.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bihrnet_edge.pose.keypoints import LSP, KeypointSet
from bihrnet_edge.pose.metadata import METADATA_KEY, PoseMetadata

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")  # larq wants it, and any test may be the first to import tensorflow
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

HEIGHT, WIDTH, STRIDE = 24, 16, 4
JOINTS = KeypointSet("arm", ("shoulder", "elbow", "wrist"), ((0, 1), (1, 2)))
METADATA = PoseMetadata("one-conv", HEIGHT, WIDTH, JOINTS)

Network = Callable[[NDArray[np.float32]], NDArray[np.float32]]


def _kernel() -> NDArray[np.float32]:
    return np.random.default_rng(3).standard_normal((3, STRIDE, STRIDE, 3)).astype(np.float32)  # OHWI


@pytest.fixture(scope="session")
def metadata() -> PoseMetadata:
    return METADATA


@pytest.fixture(scope="session")
def network() -> Network:
    """What the one-convolution artifacts compute, in NumPy: (N, 24, 16, 3) to (N, 3, 6, 4)."""

    def run(images: NDArray[np.float32]) -> NDArray[np.float32]:
        patches = images.reshape(len(images), HEIGHT // STRIDE, STRIDE, WIDTH // STRIDE, STRIDE, 3)
        return np.einsum("nyixjc,oijc->noyx", patches, _kernel()).astype(np.float32)

    return run


@pytest.fixture(scope="session")
def images() -> NDArray[np.float32]:
    return np.random.default_rng(1).standard_normal((3, HEIGHT, WIDTH, 3)).astype(np.float32)


def pack(model: Any) -> bytes:
    import flatbuffers

    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def add_metadata(data: bytes, text: str) -> bytes:
    """A .tflite file with our metadata entry."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(data, 0)
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(text.encode(), np.uint8)
    entry = schema.MetadataT()
    entry.name, entry.buffer = METADATA_KEY, len(model.buffers)
    model.buffers.append(buffer)
    model.metadata = [*(model.metadata or []), entry]
    return pack(model)


@pytest.fixture(scope="session")
def make_tflite(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Writes a .tflite file of one CONV_2D; ``int8`` quantises input, weights and output."""

    def make(
        name: str = "one",
        *,
        int8: bool = False,
        text: str | None = METADATA.to_json(),
        custom: str = "",
        batch: int = 1,
        kernel: NDArray[np.float32] | None = None,
        size: tuple[int, int] = (HEIGHT, WIDTH),
    ) -> Path:
        from ai_edge_litert import schema_py_generated as schema

        model, graph = schema.ModelT(), schema.SubGraphT()
        model.version, model.description = 3, "test"
        model.buffers = [schema.BufferT()]
        kind = schema.TensorType.INT8 if int8 else schema.TensorType.FLOAT32

        def tensor(name: str, shape: tuple[int, ...], kind: int, data: Any, scale: float) -> Any:
            value = schema.TensorT()
            value.name, value.shape, value.type, value.buffer = name, list(shape), kind, 0
            if data is not None:
                buffer = schema.BufferT()
                buffer.data = np.frombuffer(np.ascontiguousarray(data).tobytes(), np.uint8)
                model.buffers.append(buffer)
                value.buffer = len(model.buffers) - 1
            if int8:
                value.quantization = schema.QuantizationParametersT()
                value.quantization.scale, value.quantization.zeroPoint = [scale], [0]
            return value

        kernel = _kernel() if kernel is None else kernel
        (height, width), joints = size, len(kernel)
        steps = 1 / 32, float(abs(kernel).max() / 127), 1 / 4
        stored = np.rint(kernel / steps[1]).astype(np.int8) if int8 else kernel
        bias_kind = schema.TensorType.INT32 if int8 else schema.TensorType.FLOAT32
        graph.tensors = [
            tensor("images", (batch, height, width, 3), kind, None, steps[0]),
            tensor("kernel", kernel.shape, kind, stored, steps[1]),
            tensor(
                "bias", (joints,), bias_kind, np.zeros(joints, np.int32 if int8 else np.float32), steps[0] * steps[1]
            ),
            tensor("heatmaps", (batch, height // STRIDE, width // STRIDE, joints), kind, None, steps[2]),
        ]
        graph.inputs, graph.outputs = [0], [3]
        operator, code, options = schema.OperatorT(), schema.OperatorCodeT(), schema.Conv2DOptionsT()
        options.strideW = options.strideH = STRIDE
        options.padding = schema.Padding.VALID
        operator.inputs, operator.outputs, operator.opcodeIndex = [0, 1, 2], [3], 0
        if custom:
            code.deprecatedBuiltinCode = code.builtinCode = schema.BuiltinOperator.CUSTOM
            code.customCode = custom
        else:
            code.deprecatedBuiltinCode = code.builtinCode = schema.BuiltinOperator.CONV_2D
            code.version = 3 if int8 else 1
            operator.builtinOptionsType, operator.builtinOptions = schema.BuiltinOptions.Conv2DOptions, options
        graph.operators, model.operatorCodes, model.subgraphs = [operator], [code], [graph]
        data = pack(model)
        path = tmp_path_factory.mktemp("tflite") / f"{name}.tflite"
        path.write_bytes(data if text is None else add_metadata(data, text))
        return path

    return make


@pytest.fixture(scope="session")
def make_onnx(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Writes an .onnx file of one Conv, channels first, or last between two transpositions."""

    def make(
        name: str = "one",
        *,
        batch: int | str = "n",
        channels_last: bool = False,
        text: str | None = METADATA.to_json(),
        kernel: NDArray[np.float32] | None = None,
        size: tuple[int, int] = (HEIGHT, WIDTH),
    ) -> Path:
        onnx = pytest.importorskip("onnx")
        helper, float32 = onnx.helper, onnx.TensorProto.FLOAT
        kernel = _kernel() if kernel is None else kernel
        (height, width), joints = size, len(kernel)
        rows, columns = height // STRIDE, width // STRIDE
        conv = helper.make_node("Conv", ["x", "kernel"], ["y"], strides=[STRIDE, STRIDE])
        if channels_last:
            shapes = [batch, height, width, 3], [batch, rows, columns, joints]
            nodes = [
                helper.make_node("Transpose", ["images"], ["x"], perm=[0, 3, 1, 2]),
                conv,
                helper.make_node("Transpose", ["y"], ["heatmaps"], perm=[0, 2, 3, 1]),
            ]
        else:
            shapes = [batch, 3, height, width], [batch, joints, rows, columns]
            conv.input[0], conv.output[0] = "images", "heatmaps"
            nodes = [conv]
        graph = helper.make_graph(
            nodes,
            "g",
            [helper.make_tensor_value_info("images", float32, shapes[0])],
            [helper.make_tensor_value_info("heatmaps", float32, shapes[1])],
            [onnx.numpy_helper.from_array(np.ascontiguousarray(kernel.transpose(0, 3, 1, 2)), "kernel")],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        if text is not None:
            helper.set_model_props(model, {METADATA_KEY: text})
        path = tmp_path_factory.mktemp("onnx") / f"{name}.onnx"
        onnx.save(model, str(path))
        return path

    return make


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The smallest BiHRNet with random weights, 64x32 input, LSP's joints."""
    pytest.importorskip("torch")
    from bihrnet_edge.model.checkpoint import random_checkpoint, save_checkpoint
    from bihrnet_edge.model.config import ModelConfig

    config = ModelConfig(width=32, modules=(1, 1, 1), blocks=1, bottlenecks=1, keypoints=len(LSP))
    path = tmp_path_factory.mktemp("checkpoint") / "tiny.pt"
    save_checkpoint(path, random_checkpoint(config, name="tiny", keypoints=LSP, input_size=(64, 32), seed=0))
    return path


@pytest.fixture(scope="session")
def tiny_onnx(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint through PyTorch's own exporter, nothing simplified."""
    onnx = pytest.importorskip("onnx")
    import torch

    from bihrnet_edge.model.checkpoint import load_checkpoint

    checkpoint = load_checkpoint(tiny_checkpoint)
    path = tmp_path_factory.mktemp("checkpoint") / "tiny.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            checkpoint.build(), (torch.zeros(1, 3, 64, 32),), str(path), input_names=["images"],
            output_names=["heatmaps"], dynamo=False,
        )  # fmt: skip
    model = onnx.load(str(path))
    onnx.helper.set_model_props(model, {METADATA_KEY: checkpoint.metadata.to_json()})
    onnx.save(model, str(path))
    return path


@pytest.fixture(scope="session")
def lce_model(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A .tflite with two LceBconv2d (64 to 32 channels dilated, 32 to 32 strided), and its Keras original."""
    larq = pytest.importorskip("larq")
    lce = pytest.importorskip("larq_compute_engine")
    import tf_keras as keras

    def bconv(x: Any, channels: int, **options: Any) -> Any:
        x = larq.layers.QuantConv2D(
            channels, 3, padding="same", pad_values=1, input_quantizer="approx_sign",
            kernel_quantizer="magnitude_aware_sign", use_bias=False, **options,
        )(x)  # fmt: skip
        # With a bias of exactly 0 sums of exactly 0 occur, which LCE's bitpacked outputs take for negative.
        return keras.layers.BatchNormalization(beta_initializer="random_normal")(x)

    keras.utils.set_random_seed(0)
    source = keras.Input((HEIGHT, WIDTH, 3), batch_size=1)
    x = keras.layers.Conv2D(64, 3, strides=2, padding="same", use_bias=False)(source)
    x = bconv(x, 32, dilation_rate=2)
    x = bconv(x, 32, strides=2)
    model = keras.Model(source, keras.layers.Conv2D(len(JOINTS), 1)(x))
    path = tmp_path_factory.mktemp("lce") / "binary.tflite"
    path.write_bytes(add_metadata(lce.convert_keras_model(model), METADATA.to_json()))
    return path, model
