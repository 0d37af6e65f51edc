"""The models that latency.py times, made once into a folder: bihrnet-w32 and its real-valued twin, random weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bihrnet_edge.calibration.verification import synthetic_images
from bihrnet_edge.console import Step
from bihrnet_edge.export.pipeline import export_checkpoint
from bihrnet_edge.files import make_folder, write_bytes
from bihrnet_edge.model.checkpoint import Checkpoint, random_checkpoint, save_checkpoint
from bihrnet_edge.model.config import preset
from bihrnet_edge.model.exact import make_exact
from bihrnet_edge.pose.keypoints import COCO
from bihrnet_edge.runtimes.registry import open_runner

HEIGHT, WIDTH = 256, 192
#: Share of the heatmaps' range by which the twin's files may differ from torch: float32 sums in another order.
_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Models:
    """Where the files are."""

    binary: Path
    twin_tflite: Path
    twin_onnx: Path


def _checkpoint(name: str) -> Checkpoint:
    return random_checkpoint(preset(name), name=name, keypoints=COCO, input_size=(HEIGHT, WIDTH), seed=0)


def prepare_models(folder: Path, step: Step) -> Models:
    """The models in ``folder``; those that are missing are made, which takes two minutes, and compared with torch."""
    make_folder(folder)
    models = Models(folder / "bihrnet-w32.lce.tflite", folder / "hrnet-w32.tflite", folder / "hrnet-w32.onnx")
    if not models.binary.is_file():
        source = folder / "bihrnet-w32.pt"
        save_checkpoint(source, make_exact(_checkpoint("bihrnet-w32")))  # as `train` leaves it
        report = export_checkpoint(str(source), ["lce-arm64"], folder, step=step)
        if report.failure:
            raise SystemExit(report.failure)
    if not (models.twin_tflite.is_file() and models.twin_onnx.is_file()):
        with step("make the real-valued twin"):
            _make_twin(models)
    return models


def _make_twin(models: Models) -> None:
    """The twin as TFLite, through the Keras rebuild, and as ONNX; both are what a user of stock tools would run.

    LCE's converter gives built-in operators for real-valued layers, the same ones as TensorFlow's own and in a tenth
    of its time.
    """
    from bihrnet_edge.export.larq_model import build_larq_model
    from bihrnet_edge.export.lce import convert_to_lce
    from bihrnet_edge.export.onnx_model import export_onnx
    from bihrnet_edge.export.tflite_metadata import embed_metadata
    from bihrnet_edge.runtimes.torch_runtime import TorchRunner

    checkpoint = _checkpoint("hrnet-w32")
    metadata, network = checkpoint.metadata, checkpoint.build()
    keras = build_larq_model(checkpoint.config, checkpoint.state, HEIGHT, WIDTH)
    write_bytes(models.twin_tflite, embed_metadata(convert_to_lce(keras), metadata))
    write_bytes(models.twin_onnx, export_onnx(network, metadata))
    images = synthetic_images(metadata, 1)
    expected = TorchRunner.of(network, metadata).run(images)
    for path in (models.twin_tflite, models.twin_onnx):
        with open_runner(str(path)) as runner:
            difference = float(np.abs(runner.run(images) - expected).max() / np.ptp(expected))
        if difference > _TOLERANCE:
            path.unlink()
            raise SystemExit(f"{path} differs from torch by {difference:.1e} of the heatmaps' range")
