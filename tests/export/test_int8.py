"""Int8 exports: every activation is int8, additions are exact, and the file does what its rebuild does."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from export_helpers import run_lce, tiny_checkpoint
from numpy.typing import NDArray

from bihrnet_edge.calibration.mixed import sites
from bihrnet_edge.calibration.offsets import best_offset, propagate
from bihrnet_edge.calibration.verification import synthetic_images
from bihrnet_edge.errors import UserError
from bihrnet_edge.export.calibrate import Activations, channel_means, observe_activations
from bihrnet_edge.export.larq_int8 import ObservedBuilder, activation_nodes, build_int8_model, build_observed_model
from bihrnet_edge.export.larq_model import build_larq_model
from bihrnet_edge.export.lce import check_binary_ops, convert_traced, trace
from bihrnet_edge.export.sensitivity import SwitchedNetwork
from bihrnet_edge.export.tflite_metadata import embed_metadata
from bihrnet_edge.model.checkpoint import Checkpoint, random_checkpoint
from bihrnet_edge.model.exact import make_exact
from bihrnet_edge.runtimes.base import Images
from bihrnet_edge.runtimes.lce_runtime import LceRunner
from bihrnet_edge.runtimes.litert_runtime import LitertRunner
from bihrnet_edge.runtimes.tflite_file import TfliteFile, parse_tflite, real_precision


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return make_exact(tiny_checkpoint())


@pytest.fixture(scope="module")
def images(checkpoint: Checkpoint) -> Images:
    return synthetic_images(checkpoint.metadata, 6)


@pytest.fixture(scope="module")
def activations(checkpoint: Checkpoint) -> Activations:
    return Activations(checkpoint)


@pytest.fixture(scope="module")
def offset(activations: Activations, images: Images) -> tuple[float, ...]:
    return tuple(best_offset(activations.nodes, channel_means(activations, [images])).tolist())


def test_int8_export(
    checkpoint: Checkpoint, activations: Activations, images: Images, offset: tuple[float, ...], tmp_path: Path
) -> None:
    ranges = observe_activations(activations, [images[:2], images[2:]], "minmax", offset=offset)
    traced = trace(build_int8_model(checkpoint, ranges, offset=offset))
    data = convert_traced(traced)
    check_binary_ops(data, checkpoint.config)
    file = parse_tflite(data, Path("int8"))

    ops = file.histogram()
    assert ops["QUANTIZE"] == ops["DEQUANTIZE"] == 1  # at the two ends, nothing between
    results = [file.tensors[op.outputs[0]] for op in file.operators if op.name not in ("LceQuantize", "DEQUANTIZE")]
    assert {tensor.dtype for tensor in results} == {"int8"}
    first = file.tensors[file.operators[0].outputs[0]]
    assert (first.scale, first.zero_point) == (1 / 64, 0)  # a byte is pixel - 128
    _check_additions(file, checkpoint.config.bottlenecks)

    for image in images[:2]:
        rebuilt = traced.function(images=image[None]).numpy()
        assert np.corrcoef(run_lce(data, image[None]).ravel(), rebuilt.ravel())[0, 1] > 0.99

    path = tmp_path / "int8.lce.tflite"
    path.write_bytes(embed_metadata(data, checkpoint.metadata))
    with LceRunner(str(path)) as reference, LitertRunner(str(path)) as runner:
        assert runner.delegate is not None
        assert np.array_equal(runner.run(images), reference.run(images))


def _check_additions(file: TfliteFile, shortcuts: int) -> None:
    """One scale, and zero points that cancel but for the trunk's own; partial sums of means are the exception.

    And so is the sum of two shortcuts, one a bottleneck.
    """
    exact = apart = 0
    for op in file.operators:
        if op.name == "ADD":
            one, other, result = (file.tensors[index] for index in (*op.inputs, op.outputs[0]))
            assert one.scale is not None
            assert result.scale is not None
            if result.scale == pytest.approx(one.scale, rel=1e-6):
                assert other.scale == pytest.approx(one.scale, rel=1e-6)
                exact += 1
            # A sum of k - 1 maps of a mean and the k-th; the first two of them have one scale.
            elif not any(result.scale / one.scale == pytest.approx(k / (k - 1), rel=1e-5) for k in range(2, 9)):
                apart += 1
    assert exact > 50
    assert apart == shortcuts


def test_an_offset_changes_no_heatmap(
    checkpoint: Checkpoint, activations: Activations, images: Images, offset: tuple[float, ...]
) -> None:
    """Nothing rounded: thresholds and head move with the channels."""
    names = [node.name for node in activations.nodes]
    ranges = observe_activations(activations, [images], "minmax", offset=offset)
    moved = trace(build_int8_model(checkpoint, ranges, names, offset)).function
    for image, values in zip(images, activations.of(images), strict=True):
        # A value that lies on a threshold but for the last digit may change sides.
        assert np.corrcoef(moved(images=image[None]).numpy().ravel(), values["head"].ravel())[0, 1] > 0.999
    with pytest.raises(UserError, match="have an offset of 3 channels, this network's stem has 64"):
        build_int8_model(checkpoint, ranges, offset=(1.0, 2.0, 3.0))


def test_channels_far_apart_cost_nothing(checkpoint: Checkpoint, images: Images) -> None:
    """A network whose channels were moved apart, and thresholds and head with them, is as good as int8 as before."""
    state = {name: tensor.clone() for name, tensor in checkpoint.state.items()}
    state["stem.1.act.weight"][:] = 1.0  # no PReLU: a bias arrives behind it
    far = _moved(dataclasses.replace(checkpoint, state=state), np.random.default_rng(0).normal(0.0, 20.0, 64))
    run = Activations(far)
    expected = np.concatenate([values["head"] for values in run.of(images)])
    expected -= expected.mean(axis=(0, 1, 2))

    def correlation(offset: Sequence[float]) -> float:
        ranges = observe_activations(run, [images], "minmax", offset=offset)
        int8 = trace(build_int8_model(far, ranges, offset=offset)).function
        made = np.concatenate([int8(images=image[None]).numpy() for image in images])
        made -= made.mean(axis=(0, 1, 2))
        return float(np.corrcoef(made.ravel(), expected.ravel())[0, 1])

    # Of random signs the last digit matters more than of trained ones: 0.94 with all channels around zero.
    assert correlation(best_offset(run.nodes, channel_means(run, [images])).tolist()) > 0.8
    assert correlation(()) < 0.75


def _moved(checkpoint: Checkpoint, offset: NDArray[np.float64]) -> Checkpoint:
    """A network that computes the same from a stem whose channels lie that much higher."""
    read: dict[str, str] = {}

    class Reads(ObservedBuilder):
        def threshold(self, x: Any, name: str) -> Any:
            read[f"{name}.beta"] = self._names[id(x)]
            return super().threshold(x, name)

        def head(self, x: Any) -> Any:
            read["head"] = self._names[id(x)]
            return super().head(x)

    build_larq_model(checkpoint.config, checkpoint.state, 32, 32, builder=Reads)
    state = {name: tensor.clone() for name, tensor in checkpoint.state.items()}
    moves = propagate(activation_nodes(checkpoint.config), offset)
    state["stem.1.bn.bias"] += torch.from_numpy(offset).float()
    kernel = state["head.weight"][:, :, 0, 0].double()
    state["head.bias"] -= (kernel @ torch.from_numpy(moves[read.pop("head")])).float()
    for beta, source in read.items():
        state[beta] += torch.from_numpy(moves[source]).float()
    return dataclasses.replace(checkpoint, state=state)


def test_heatmaps_never_saturate(activations: Activations, images: Images) -> None:
    """Whatever the observer: of all else it cuts the tails, as asked."""
    every = observe_activations(activations, [images], "minmax")
    most = observe_activations(activations, [images], "percentile", percentile=90.0)
    assert most["head"] == every["head"]
    inside = [every[name][0] <= low and high <= every[name][1] for name, (low, high) in most.items()]
    narrower = [high - low < 0.9 * (every[name][1] - every[name][0]) for name, (low, high) in most.items()]
    assert all(inside)
    assert sum(narrower) > 0.9 * len(most)


def test_switches_are_the_rebuilds(checkpoint: Checkpoint, activations: Activations, images: Images) -> None:
    """All on: the int8 rebuild. All off: the float one. Some: between."""
    ranges = observe_activations(activations, [images], "minmax")
    network = SwitchedNetwork(checkpoint, activations.nodes, ranges, (), images[:2])
    names = frozenset(node.name for node in activations.nodes)
    kept = frozenset(node.name for site in sites(activations.nodes)[:8] for node in site)
    plain = np.concatenate([values["head"] for values in activations.of(images[:2])])
    rebuilt = trace(build_int8_model(checkpoint, ranges)).function
    int8 = np.concatenate([rebuilt(images=image[None]).numpy() for image in images[:2]])
    none, some, everything = network.errors([frozenset(), names - kept, names])
    # A batch is summed in another order, which flips a few signs of so small a network.
    assert everything == pytest.approx(np.square(int8 - plain).sum() / np.square(plain).sum(), rel=0.5)
    assert none == 0.0 < some < 0.7 * everything


def test_mixed_export(checkpoint: Checkpoint, activations: Activations, images: Images, tmp_path: Path) -> None:
    """What is kept is float in the file, the rest int8; the delegate does what LCE does but for QUANTIZE's ties."""
    ranges = observe_activations(activations, [images], "minmax")
    kept = [node.name for site in sites(activations.nodes)[1:12] for node in site] + ["head"]
    data = convert_traced(trace(build_int8_model(checkpoint, ranges, kept)))
    check_binary_ops(data, checkpoint.config)
    file = parse_tflite(data, Path("mixed"))
    assert real_precision(file) == "mixed"
    computed = [op for op in file.operators if op.name in ("ADD", "PRELU", "LceBconv2d")]
    floats = [op for op in computed if file.tensors[op.outputs[0]].dtype == "float32"]
    assert 10 <= len(floats) < len(computed) / 2
    head = [op for op in file.operators if op.name == "CONV_2D"][-1]
    assert [file.tensors[tensor].dtype for tensor in (head.inputs[0], *head.outputs)] == ["float32", "float32"]

    path = tmp_path / "mixed.lce.tflite"
    path.write_bytes(embed_metadata(data, checkpoint.metadata))
    with LceRunner(str(path)) as reference, LitertRunner(str(path)) as runner:
        assert runner.delegate is not None
        assert np.corrcoef(runner.run(images).ravel(), reference.run(images).ravel())[0, 1] > 0.999


@pytest.mark.parametrize("changes", [{}, {"width": 48, "block": "basic", "bottleneck": "plain", "integer_stem": False}])
def test_nodes_are_those_of_the_rebuild(
    checkpoint: Checkpoint, activations: Activations, changes: dict[str, Any]
) -> None:
    config = dataclasses.replace(checkpoint.config, **changes)
    if changes:
        other = random_checkpoint(
            config, name="m", keypoints=checkpoint.metadata.keypoints, input_size=(32, 32), seed=0
        )
        expected = build_observed_model(other)[1].nodes
    else:
        expected = activations.nodes
    assert activation_nodes(config) == expected


def test_unknown_activation_is_refused(checkpoint: Checkpoint, activations: Activations, images: Images) -> None:
    ranges = observe_activations(activations, [images], "minmax")
    with pytest.raises(UserError, match="'nothing', which is to stay in float, is no activation of this network"):
        build_int8_model(checkpoint, ranges, ["nothing"])


def test_observed_values_are_the_networks(checkpoint: Checkpoint, activations: Activations, images: Images) -> None:
    import torch

    network = checkpoint.build()
    seen = {}
    for path in ("stem.0.bn", "stem.1.act", "stage1.0.reduce.act", "stage4.0.branches.2.0.mix.bn", "head"):
        module = network.get_submodule(path)
        module.register_forward_hook(lambda _m, _i, out, path=path: seen.update({path: out.permute(0, 2, 3, 1)}))
    with torch.no_grad():
        network(torch.from_numpy(images[:1]).permute(0, 3, 1, 2))
    (values,) = activations.of(images[:1])
    for path, expected in seen.items():
        assert np.allclose(values[path], expected.numpy(), atol=1e-4 * float(expected.abs().max())), path


def test_activations_without_a_range_are_refused(checkpoint: Checkpoint, images: Images) -> None:
    state = {name: tensor.clone() for name, tensor in checkpoint.state.items()}
    state["stage1.0.reduce.act.weight"][:] = 0.0
    state["stage1.0.reduce.bn.bias"][:] = -1e6
    with pytest.raises(UserError, match=r"'stage1\.0\.reduce\.act' is -?0 everywhere on all 1 calibration images"):
        observe_activations(Activations(dataclasses.replace(checkpoint, state=state)), [images[:1]], "minmax")
    state["stage1.0.reduce.act.weight"][:] = 3e38
    with pytest.raises(UserError, match=r"values of the activation 'stage1\.0\.reduce\.act' are NaN, infinite"):
        observe_activations(Activations(dataclasses.replace(checkpoint, state=state)), [images[:1]], "minmax")
