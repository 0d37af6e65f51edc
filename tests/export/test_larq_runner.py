from __future__ import annotations

import gc

import numpy as np

from bihrnet_edge.export.larq_model import build_larq_model
from bihrnet_edge.export.larq_runner import LarqRunner
from bihrnet_edge.export.lce import check_binary_ops, convert_traced, trace
from bihrnet_edge.model.checkpoint import random_checkpoint
from bihrnet_edge.model.config import ModelConfig
from bihrnet_edge.pose.keypoints import LSP
from bihrnet_edge.runtimes.torch_runtime import TorchRunner


def test_a_trace_keeps_its_variables_alive() -> None:
    """A concrete function alone does not: once they are collected, converting it ends in an AssertionError."""
    config = ModelConfig(width=8, modules=(1, 1, 1), blocks=1, bottlenecks=1, keypoints=14)
    checkpoint = random_checkpoint(config, name="m", keypoints=LSP, input_size=(32, 32), seed=0)
    traced = trace(build_larq_model(config, checkpoint.state, 32, 32))
    gc.collect()
    check_binary_ops(convert_traced(traced), config)
    runner = LarqRunner(traced, checkpoint.metadata)
    images = np.random.default_rng(0).standard_normal((3, 32, 32, 3), np.float32)
    got = runner.run(images)
    expected = TorchRunner.of(checkpoint.build(), checkpoint.metadata).run(images)
    assert got.shape == expected.shape == (3, 14, 8, 8)
    assert np.corrcoef(got.ravel(), expected.ravel())[0, 1] > 0.999
