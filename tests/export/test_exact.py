"""The exact form gives the same bits in every format, whatever sums its runtime adds up first."""

from __future__ import annotations

import numpy as np
import pytest
from export_helpers import run_lce, run_onnx, run_torch

from bihrnet_edge.export.larq_model import build_larq_model
from bihrnet_edge.export.lce import check_binary_ops, convert_to_lce
from bihrnet_edge.export.onnx_model import export_onnx
from bihrnet_edge.model.checkpoint import random_checkpoint
from bihrnet_edge.model.config import ModelConfig
from bihrnet_edge.model.exact import make_exact
from bihrnet_edge.pose.crop import normalise
from bihrnet_edge.pose.keypoints import LSP

#: The head is an ordinary float convolution: its sum of 8 to 32 terms may be rounded in another order.
HEAD_ROUNDING = 1e-5


@pytest.mark.slow
@pytest.mark.parametrize(("width", "block", "bottleneck"), [(32, "ms", "ir"), (16, "basic", "plain")])
def test_all_formats_are_equal_before_the_head(width: int, block: str, bottleneck: str) -> None:
    config = ModelConfig(
        width=width, modules=(1, 1, 1), blocks=1, bottlenecks=1, keypoints=14, block=block, bottleneck=bottleneck,  # type: ignore[arg-type]
    )  # fmt: skip
    random = random_checkpoint(config, name="m", keypoints=LSP, input_size=(64, 64), seed=width)
    exact = make_exact(random)
    pixels = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), np.uint8)
    images = normalise(pixels, exact.metadata.mean, exact.metadata.std)
    network = exact.build()
    expected = np.concatenate([run_torch(network, image[None]) for image in images])
    keras = build_larq_model(exact.config, exact.state, 64, 64)
    data = convert_to_lce(keras)
    check_binary_ops(data, exact.config)
    onnx = export_onnx(network, exact.metadata)
    bound = HEAD_ROUNDING * float(np.abs(expected).max())
    for run in (lambda x: keras(x).numpy(), lambda x: run_lce(data, x), lambda x: run_onnx(onnx, x)):
        got = np.concatenate([run(image[None]) for image in images])
        assert np.abs(got - expected).max() <= bound
