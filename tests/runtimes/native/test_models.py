"""Whole networks: ours in both forms, and larq-zoo's, which nobody made for this delegate."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import side_packages
from delegate_runs import Array, profile_of, run_delegate
from lce_models import run_lce

from bihrnet_edge.runtimes.registry import open_runner
from bihrnet_edge.runtimes.tflite_file import parse_tflite

pytest.importorskip("larq_compute_engine")
torch = pytest.importorskip("torch")


def correlation(one: Array, other: Array) -> float:
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])


@pytest.fixture(
    scope="module", params=[True, pytest.param(False, marks=pytest.mark.thorough)], ids=["exact", "ordinary"]
)
def ours(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[bool, Path]:
    """bihrnet-small at 96x96 with random weights, in the form that `train` leaves and as an ordinary checkpoint."""
    from bihrnet_edge.export.larq_model import build_larq_model
    from bihrnet_edge.export.lce import convert_to_lce
    from bihrnet_edge.export.tflite_metadata import embed_metadata
    from bihrnet_edge.model.checkpoint import random_checkpoint
    from bihrnet_edge.model.config import preset
    from bihrnet_edge.model.exact import make_exact
    from bihrnet_edge.pose.keypoints import LSP

    name = "bihrnet-small"
    checkpoint = random_checkpoint(
        preset(name, keypoints=len(LSP)), name=name, keypoints=LSP, input_size=(96, 96), seed=0
    )
    if request.param:
        checkpoint = make_exact(checkpoint)
    data = convert_to_lce(build_larq_model(checkpoint.config, checkpoint.state, 96, 96))
    path = tmp_path_factory.mktemp("ours") / f"{name}.lce.tflite"
    path.write_bytes(embed_metadata(data, checkpoint.metadata))
    return bool(request.param), path


@pytest.mark.slow
def test_bihrnet_small(ours: tuple[bool, Path]) -> None:
    from bihrnet_edge.calibration.verification import synthetic_images

    exact, path = ours
    with open_runner(str(path), 1, "lce") as reference, open_runner(str(path), 2) as delegate:
        assert delegate.delegate is not None
        images = synthetic_images(reference.metadata, 4)
        expected, got = reference.run(images), delegate.run(images)
    if exact:  # up to the head nothing is rounded; the head's sums are taken in another order
        assert np.abs(got - expected).max() <= 1e-6 * np.ptp(expected)
    for one, other in zip(got, expected, strict=True):
        assert correlation(one, other) >= 0.9999


@pytest.mark.slow
def test_bihrnet_small_is_one_region(ours: tuple[bool, Path]) -> None:
    """Everything but the stem and the head."""
    _, path = ours
    data = path.read_bytes()
    inputs = [np.random.default_rng(0).standard_normal((1, 96, 96, 3)).astype(np.float32)]
    (region,) = profile_of(data, inputs)["regions"]
    operators = parse_tflite(data, path).operators
    assert region["nodes"] >= len(operators) - 8
    expected = [output.tobytes() for output in run_delegate(data, inputs)]
    for options in ({"threads": 2}, {"threads": 3}, {"kernel": "scalar"}):
        assert [output.tobytes() for output in run_delegate(data, inputs, **options)] == expected, options


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """larq-zoo asks for a protobuf older than onnx takes, so that it cannot be installed beside the other packages."""
    packages = side_packages.install(
        tmp_path_factory.mktemp("packages"), "larq-zoo==2.4.0", "zookeeper==1.4.0", "typeguard==4.6.0", "click==8.5.1"
    )
    folder = tmp_path_factory.mktemp("zoo")
    side_packages.run(packages, Path(__file__).with_name("zoo_models.py"), folder)
    return {path.stem: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["QuickNet", "BiRealNet", "MeliusNet22"])
def test_larq_zoo(zoo: dict[str, bytes], name: str) -> None:
    model = zoo[name]
    count = parse_tflite(model, Path(name)).histogram()["LceBconv2d"]
    assert count >= 16
    for seed in range(2):
        inputs = [np.random.default_rng(seed).uniform(-1, 1, (1, 64, 64, 3)).astype(np.float32)]
        (expected,) = run_lce(model, inputs)
        (got,) = run_delegate(model, inputs)
        assert correlation(got, expected) >= 0.9999
        for options in ({"threads": 2}, {"kernel": "scalar"}):
            assert run_delegate(model, inputs, **options)[0].tobytes() == got.tobytes()
