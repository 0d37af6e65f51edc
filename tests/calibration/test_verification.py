from __future__ import annotations

import numpy as np
import pytest

from bihrnet_edge.calibration.verification import compare_on_images, synthetic_images
from bihrnet_edge.model.checkpoint import random_checkpoint
from bihrnet_edge.model.config import ModelConfig
from bihrnet_edge.pose.keypoints import LSP
from bihrnet_edge.pose.metadata import PoseMetadata
from bihrnet_edge.runtimes.torch_runtime import TorchRunner


def test_synthetic_images_are_seeded_smooth_pictures_of_eight_bits() -> None:
    metadata = PoseMetadata("m", 64, 32, LSP, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    images = synthetic_images(metadata, 3)
    assert images.shape == (3, 64, 32, 3)
    assert images.dtype == np.float32
    assert np.array_equal(images, synthetic_images(metadata, 3))
    assert not np.array_equal(images, synthetic_images(metadata, 3, seed=1))
    pixels = (images * 0.25 + 0.5) * 255
    assert np.abs(pixels - pixels.round()).max() < 1e-3
    assert pixels.std(axis=(1, 2)) == pytest.approx(56, abs=6)
    assert pixels.mean() == pytest.approx(128, abs=3)
    # Neighbours resemble each other, as in a photograph and not in white noise.
    assert np.corrcoef(images[:, :, 1:].ravel(), images[:, :, :-1].ravel())[0, 1] > 0.5


def test_another_network_does_not_pass_for_the_same() -> None:
    config = ModelConfig(width=8, modules=(1, 1, 1), blocks=1, bottlenecks=1, keypoints=14)
    one, same, other = (
        random_checkpoint(config, name="x", keypoints=LSP, input_size=(64, 32), seed=seed) for seed in (0, 0, 1)
    )
    runners = [TorchRunner.of(c.build(), c.metadata) for c in (one, same, other)]
    found = compare_on_images(runners[0], {"same": runners[1], "other": runners[2]}, synthetic_images(one.metadata, 9))
    assert found["same"].max_abs_diff == 0
    assert len(found["same"].correlations) == 9
    assert max(found["other"].correlations) < 0.9
