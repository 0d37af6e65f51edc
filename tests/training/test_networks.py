"""What a phase starts from, what teaches it, and the moving average of its weights."""

from __future__ import annotations

import copy
import dataclasses
import json
from pathlib import Path

import pytest
import torch
from torch import nn

from bihrnet_edge.data.dataset import PoseDataset
from bihrnet_edge.errors import UserError
from bihrnet_edge.model.binary import BinaryConv2d
from bihrnet_edge.model.checkpoint import Checkpoint, load_checkpoint, random_checkpoint, save_checkpoint
from bihrnet_edge.model.config import ModelConfig, preset
from bihrnet_edge.model.exact import make_exact
from bihrnet_edge.pose.keypoints import KeypointSet
from bihrnet_edge.pose.metadata import PoseMetadata
from bihrnet_edge.training.networks import (
    StageOutputs,
    Teacher,
    check_same_features,
    clip_latent_weights,
    ema_rate,
    load_start,
    make_ema,
    parameter_groups,
    phase_network,
)
from bihrnet_edge.training.phase import Phase
from bihrnet_edge.training.recipe import Recipe
from bihrnet_edge.training.trainer import Trainer

JOINTS = KeypointSet("custom", ("right_shoulder", "left_hip", "left_shoulder"))
METADATA = PoseMetadata("m", 32, 32, JOINTS)


def _phase(network: str, **values: object) -> Phase:
    phase = Phase("p", network, (32, 32), 1, {"awing": 1.0}, batch=4)  # type: ignore[arg-type]
    return dataclasses.replace(phase, **values)  # type: ignore[arg-type]


def _recipe(*phases: Phase) -> Recipe:
    nowhere = Path("unused")
    return Recipe("toy", "bihrnet-small", nowhere, nowhere, nowhere, nowhere, phases, canvas=64)


def _checkpoint(config: ModelConfig, keypoints: KeypointSet = JOINTS, seed: int = 0) -> Checkpoint:
    return random_checkpoint(config, name="m", keypoints=keypoints, input_size=(32, 32), seed=seed)


@pytest.fixture(scope="module")
def binary() -> Checkpoint:
    return _checkpoint(preset("bihrnet-small", keypoints=3))


@pytest.fixture(scope="module")
def exact(binary: Checkpoint) -> Checkpoint:
    return make_exact(binary)


@pytest.fixture(scope="module")
def twin() -> Checkpoint:
    return _checkpoint(preset("hrnet-small", keypoints=3))


def test_init_must_fit_the_phase(tmp_path: Path, binary: Checkpoint, exact: Checkpoint, twin: Checkpoint) -> None:
    other = KeypointSet("custom", ("right_shoulder", "left_hip", "nose"))
    wide = _checkpoint(dataclasses.replace(twin.config, blocks=1))
    for checkpoint, phase, message in (
        (dataclasses.replace(twin, metadata=dataclasses.replace(METADATA, keypoints=other)), "twin", "same joints"),
        (wide, "twin", "has blocks 1 where the recipe's network has 2"),
        (binary, "twin", "is binary"),
        (exact, "binary", "exact form"),
    ):
        save_checkpoint(tmp_path / "c.pt", checkpoint)
        with pytest.raises(UserError, match=rf"init of phase 'p', .*c\.pt, .*{message}"):
            load_start(str(tmp_path / "c.pt"), _recipe(_phase(phase)), _phase(phase), JOINTS)
    save_checkpoint(tmp_path / "c.pt", twin)
    with pytest.raises(UserError, match="real-valued"):
        load_start(str(tmp_path / "c.pt"), _recipe(), _phase("binary", exact=True), JOINTS)
    for network in ("twin", "binary", "binary-activations"):
        start = load_start(str(tmp_path / "c.pt"), _recipe(), _phase(network), JOINTS)
        assert start.network == "twin"
        loaded = phase_network(_recipe(), _phase(network), 3, start.weights).state_dict()
        assert all(torch.equal(loaded[name], twin.state[name]) for name in start.weights)
        assert len(start.weights) > 400


@pytest.mark.slow
def test_a_run_starts_from_init(toy: PoseDataset, tmp_path: Path, twin: Checkpoint) -> None:
    """A learning rate that changes nothing leaves the checkpoint's kernels; the thresholds are fitted."""
    save_checkpoint(tmp_path / "start.pt", twin)
    phase = _phase("binary", init=str(tmp_path / "start.pt"), learning_rate=1e-12, weight_decay=0.0)
    Trainer(_recipe(phase), tmp_path / "run", toy, toy).run()
    state = load_checkpoint(tmp_path / "run" / "p.pt").state
    for name, tensor in twin.state.items():
        if name.endswith("conv.weight"):
            assert torch.allclose(state[name], tensor.clamp(-1, 1), atol=1e-6), name
    assert any(state[name].abs().max() > 1e-3 for name in state if name.endswith("sign.beta"))
    # A changed checkpoint is another run.
    save_checkpoint(tmp_path / "start.pt", _checkpoint(twin.config, seed=1))
    with pytest.raises(UserError, match="choose another folder"):
        Trainer(_recipe(phase), tmp_path / "run", toy, toy).run()


@pytest.mark.slow
def test_an_exact_phase_leaves_an_exact_network(toy: PoseDataset, tmp_path: Path, binary: Checkpoint) -> None:
    """Only thresholds, slopes and head move; what the last epoch measured is what the final checkpoint does."""
    save_checkpoint(tmp_path / "start.pt", binary)
    phase = _phase("binary", init=str(tmp_path / "start.pt"), exact=True, epochs=2, ema_decay=0.5)
    result = Trainer(_recipe(phase), tmp_path / "run", toy, toy).run()
    before = make_exact(binary).state
    moved = {name for name, tensor in before.items() if not torch.equal(tensor, result.state[name])}
    assert "head.weight" in moved
    assert any(name.endswith("sign.beta") for name in moved)
    assert all(name.startswith("head.") or name.endswith(("sign.beta", "act.weight")) for name in moved)
    assert result.config.integer_stem
    packed = load_checkpoint(tmp_path / "run" / "toy.pt")
    images = (torch.randint(0, 256, (2, 3, 32, 32)) - 128) / 64
    assert torch.allclose(packed.build()(images), result.build()(images), atol=1e-5)  # the head's sums are rounded
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert lines[-1]["val_pck"] == lines[-2]["val_pck"] == lines[-3]["val_pck"]


def test_teacher_sees_its_own_normalisation(binary: Checkpoint) -> None:
    mine = dataclasses.replace(METADATA, mean=(0.4, 0.5, 0.6), std=(0.1, 0.2, 0.3))
    pixels = torch.rand(2, 3, 64, 64)

    def normalised(metadata: PoseMetadata) -> torch.Tensor:
        mean, std = (torch.tensor(v)[:, None, None] for v in (metadata.mean, metadata.std))
        return (pixels - mean) / std

    teacher = Teacher(binary.build(), METADATA, mine)
    seen: list[torch.Tensor] = []
    teacher.network.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    teacher.train()
    teacher(normalised(mine))
    assert not teacher.training
    assert torch.allclose(seen[0], normalised(METADATA), atol=1e-5)
    assert not any(p.requires_grad for p in teacher.parameters())


def test_a_teachers_joints_are_the_datas(toy: PoseDataset, tmp_path: Path) -> None:
    phase = _phase("binary", teacher="bihrnet-small-lsp", losses={"teacher_kl": 1.0})
    with pytest.raises(UserError, match="teacher of phase 'p', bihrnet-small-lsp, predicts the joints of 'lsp'"):
        Trainer(_recipe(phase), tmp_path, toy, toy).run()


def test_features_need_the_same_width() -> None:
    small, wide = ModelConfig(width=32), ModelConfig(width=48)
    check_same_features(small, small.twin(), _phase("binary"))
    with pytest.raises(UserError, match=r"phase p: loss feature .*32 .*48"):
        check_same_features(small, wide, _phase("binary", teacher="t"))


def test_stage_outputs_are_the_finest_branches(twin: Checkpoint, binary: Checkpoint) -> None:
    shapes = []
    for checkpoint in (twin, binary):
        network = checkpoint.build()
        outputs = StageOutputs(network)
        network(torch.rand(2, 3, 64, 32))
        features = outputs.take()
        shapes.append([tuple(feature.shape) for feature in features])
        assert not outputs.features
    assert shapes[0] == shapes[1] == [(2, 256, 16, 8), (2, 32, 16, 8), (2, 32, 16, 8), (2, 32, 16, 8)]


def test_ema_is_a_plain_loop() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    ema = make_ema(model, 0.9)
    expected: dict[str, torch.Tensor] = {}
    for update in range(40):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter))
        model(torch.randn(5, 3))
        ema.update_parameters(model)
        current = {name: value.double().clone() for name, value in model.state_dict().items()}
        decay = min(0.9, (1 + update) / (10 + update))
        expected = {
            name: value if update == 0 or name.endswith("tracked") else decay * expected[name] + (1 - decay) * value
            for name, value in current.items()
        }
    for name, value in ema.module.state_dict().items():
        assert torch.allclose(value.double(), expected[name], atol=1e-5), name
    assert ema.module.state_dict()["1.num_batches_tracked"] == 40
    assert [round(ema_rate(0.9, n), 3) for n in (1, 90, 10**6)] == [0.182, 0.9, 0.9]
    assert not any(p.requires_grad for p in ema.parameters())


def test_ema_goes_on_from_its_state() -> None:
    model = nn.Linear(2, 2)
    whole = make_ema(model, 0.5)
    whole.update_parameters(model)
    again = make_ema(copy.deepcopy(model), 0.5)
    again.load_state_dict(whole.state_dict())
    with torch.no_grad():
        model.weight.add_(1.0)
    for average in (whole, again):
        average.update_parameters(model)
    assert torch.equal(whole.module.weight, again.module.weight)


def test_latent_weights_are_clipped_and_not_decayed(twin: Checkpoint) -> None:
    for network, clipped in (("binary", True), ("binary-activations", False)):
        model = phase_network(_recipe(), _phase(network), 3, twin.state)
        convolution = next(m for m in model.modules() if isinstance(m, BinaryConv2d))
        with torch.no_grad():
            convolution.weight.fill_(3.0)
        clip_latent_weights(model)
        assert convolution.weight.max().item() == (1.0 if clipped else 3.0)
        decayed, plain = parameter_groups(model, 0.1)
        assert (decayed["weight_decay"], plain["weight_decay"]) == (0.1, 0.0)
        assert not any(p is convolution.weight for p in decayed["params"])
        assert len(decayed["params"]) == 3  # the stem's two kernels and the head's
        assert len(decayed["params"]) + len(plain["params"]) == len(list(model.parameters()))
