"""Networks with random weights whose signs are well mixed, and ways to run them in each runtime."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from bihrnet_edge.export.larq_model import LarqBuilder
from bihrnet_edge.export.tensorflow_env import tf_keras
from bihrnet_edge.export.weights import WeightStore
from bihrnet_edge.model.checkpoint import Checkpoint
from bihrnet_edge.model.config import ModelConfig
from bihrnet_edge.model.hrnet import BiHRNet
from bihrnet_edge.pose.keypoints import KeypointSet
from bihrnet_edge.pose.metadata import PoseMetadata

FloatArray = npt.NDArray[np.float32]

SMALL = ModelConfig(width=32, modules=(1, 1, 1), blocks=1, bottlenecks=2, keypoints=5)
TINY = dataclasses.replace(SMALL, bottlenecks=1)
# Three joints of the pictures with dots, and two others.
TINY_METADATA = PoseMetadata(
    "tiny", 32, 32, KeypointSet("five", ("right_shoulder", "left_hip", "left_wrist", "a", "b"))
)


def randomise(module: nn.Module, seed: int) -> None:
    """Everything that training moves away from its initial value: BatchNorm statistics, thresholds, slopes."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in (*module.named_parameters(), *module.named_buffers()):
            leaf = name.rpartition(".")[2]
            if leaf == "beta" or leaf in ("bias", "running_mean"):
                value.normal_(0.0, 0.3, generator=generator)
            elif leaf == "running_var":
                value.uniform_(0.5, 2.0, generator=generator)
            elif leaf == "weight" and value.dim() == 1:
                low, high = (0.5, 1.5) if ".bn." in name or name.startswith("bn.") else (-0.1, 0.5)
                value.uniform_(low, high, generator=generator)
            elif leaf == "weight":
                value.normal_(0.0, 1.0 / value[0].numel() ** 0.5, generator=generator)


def random_network(config: ModelConfig, seed: int = 0) -> BiHRNet:
    model = BiHRNet(config)
    randomise(model, seed)
    return model.eval().requires_grad_(False)


def tiny_checkpoint() -> Checkpoint:
    """A network of ``TINY``, not in its exact form."""
    return Checkpoint(TINY_METADATA, TINY, dict(random_network(TINY).state_dict()))


@dataclass(frozen=True)
class SmallExport:
    """A network of ``SMALL`` and what it becomes."""

    model: BiHRNet
    keras: Any
    lce: bytes
    images: FloatArray  # (1, 64, 64, 3)
    heatmaps: FloatArray  # (1, 16, 16, 5), by PyTorch


def run_torch(model: nn.Module, images: FloatArray) -> FloatArray:
    """PyTorch on channels-last data."""
    with torch.no_grad():
        result: FloatArray = model(torch.from_numpy(images).permute(0, 3, 1, 2)).permute(0, 2, 3, 1).numpy()
    return result


def run_lce(data: bytes, images: FloatArray) -> FloatArray:
    from larq_compute_engine.tflite.python.interpreter import Interpreter

    result: FloatArray = Interpreter(data, num_threads=2).predict(images)
    return result


def run_onnx(data: bytes, images: FloatArray) -> FloatArray:
    """ONNX Runtime on channels-last data."""
    import onnxruntime

    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    (result,) = session.run(None, {"images": np.ascontiguousarray(images.transpose(0, 3, 1, 2))})
    return np.asarray(result).transpose(0, 2, 3, 1)


def run_litert(data: bytes, images: FloatArray, *, xnnpack: bool = True) -> FloatArray:
    """LiteRT without a delegate of ours; ``xnnpack``: with the one that is part of it."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    resolver = OpResolverType.AUTO if xnnpack else OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = Interpreter(model_content=data, num_threads=2, experimental_op_resolver_type=resolver)
    interpreter.allocate_tensors()
    source, target = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
    results = []
    for image in images:
        interpreter.set_tensor(source, image[None])
        interpreter.invoke()
        results.append(interpreter.get_tensor(target))
    return np.concatenate(results)


def part_to_keras(
    module: nn.Module,
    shape: tuple[int, int, int],
    make: Callable[[Any, Any], Any],
    builder: Callable[[ModelConfig, WeightStore], LarqBuilder] = LarqBuilder,
) -> Any:
    """A Keras model of one module: ``make`` calls the builder's method of it, under the name ``m``."""
    store = WeightStore({f"m.{name}": value for name, value in module.state_dict().items()})
    source = tf_keras.Input(shape, batch_size=1, name="images")
    model = tf_keras.Model(source, make(builder(SMALL, store), source))
    store.finish()
    return model
