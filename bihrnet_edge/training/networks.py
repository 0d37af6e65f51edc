"""The networks of a phase: what it trains, what teaches it, and what changes where a real-valued one turns binary."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from bihrnet_edge.errors import UserError
from bihrnet_edge.model.binary import BinaryConv2d, RSign
from bihrnet_edge.model.checkpoint import Checkpoint, load_checkpoint
from bihrnet_edge.model.config import ModelConfig
from bihrnet_edge.model.exact import PIXEL_MEAN, PIXEL_STD
from bihrnet_edge.model.hrnet import BiHRNet
from bihrnet_edge.pose.keypoints import KeypointSet
from bihrnet_edge.pose.metadata import PoseMetadata
from bihrnet_edge.training.phase import Network, Phase
from bihrnet_edge.training.recipe import Recipe

#: What the finest branch of each stage passes on is compared with the teacher's.
_STAGES = ("stage1", "stage2", "stage3", "stage4")


@dataclass(frozen=True)
class Start:
    """Weights that a phase starts from.

    Attributes:
        weights: by name.
        network: what was binary in them; None for random ones.
        exact: whether they are in the exact form.
    """

    weights: Mapping[str, Tensor]
    network: Network | None = None
    exact: bool = False


def phase_config(recipe: Recipe, phase: Phase, keypoints: int) -> ModelConfig:
    """The architecture that a phase trains."""
    return dataclasses.replace(recipe.model_config(keypoints, phase.network), integer_stem=phase.exact)


def phase_metadata(recipe: Recipe, phase: Phase, keypoints: KeypointSet, name: str | None = None) -> PoseMetadata:
    """How a phase's network is fed."""
    metadata = PoseMetadata(name or recipe.name, *phase.size, keypoints)
    if phase.exact:
        metadata = dataclasses.replace(metadata, mean=(PIXEL_MEAN,) * 3, std=(PIXEL_STD,) * 3)
    return metadata


def phase_network(recipe: Recipe, phase: Phase, keypoints: int, weights: Mapping[str, Tensor]) -> BiHRNet:
    """The phase's network with weights of an earlier one; thresholds that those lack are zero."""
    model = BiHRNet(phase_config(recipe, phase, keypoints))
    model.load_state_dict({**model.state_dict(), **weights})
    for module in model.modules():
        if isinstance(module, BinaryConv2d):
            module.binarize = phase.network == "binary"
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def load_start(source: str, recipe: Recipe, phase: Phase, keypoints: KeypointSet) -> Start:
    """A checkpoint as what ``phase`` starts from.

    Raises:
        UserError: it cannot be read, is of another architecture or other joints, or of a form that the phase
            cannot train on.
    """
    checkpoint = load_checkpoint(source)
    where = f"init of phase {phase.name!r}, {source},"
    _check_joints(checkpoint, keypoints, where)
    mine, theirs = (config.twin() for config in (phase_config(recipe, phase, len(keypoints)), checkpoint.config))
    for field in dataclasses.fields(ModelConfig):
        a, b = getattr(theirs, field.name), getattr(mine, field.name)
        if a != b:
            raise UserError(
                f"{where} has {field.name} {a!r} where the recipe's network has {b!r}; give one of its kind."
            )
    checkpoint.build()  # refuses missing, left over and misshapen tensors
    if checkpoint.config.binary and phase.network == "twin":
        raise UserError(
            f"{where} is binary, which a phase with network: twin cannot start from; give a real-valued one."
        )
    if checkpoint.config.integer_stem and not phase.exact:
        raise UserError(
            f"{where} is in its exact form; give the checkpoint that a phase left, or make the phase exact."
        )
    if phase.exact and not checkpoint.config.binary:
        raise UserError(f"{where} is real-valued, which has no exact form; give a binary one.")
    network: Network = "binary" if checkpoint.config.binary else "twin"
    return Start(dict(checkpoint.state), network, checkpoint.config.integer_stem)


def _check_joints(checkpoint: Checkpoint, keypoints: KeypointSet, where: str) -> None:
    if checkpoint.metadata.keypoints.keypoints != keypoints.keypoints:
        raise UserError(
            f"{where} predicts the joints of {checkpoint.metadata.keypoints.name!r}, the data name those of "
            f"{keypoints.name!r}; give a checkpoint with the same joints in the same order."
        )


class Teacher(nn.Module):
    """A frozen network that takes the student's images, whatever it is normalised by itself."""

    def __init__(self, network: BiHRNet, theirs: PoseMetadata, students: PoseMetadata) -> None:
        super().__init__()
        self.network = network.eval().requires_grad_(False)
        mean, std, to_mean, to_std = (
            torch.tensor(values)[:, None, None] for values in (students.mean, students.std, theirs.mean, theirs.std)
        )
        self.slope: Tensor
        self.offset: Tensor
        self.register_buffer("slope", std / to_std)
        self.register_buffer("offset", (mean - to_mean) / to_std)
        self.same = theirs.mean == students.mean and theirs.std == students.std

    def train(self, mode: bool = True) -> Teacher:
        """Stays in evaluation mode."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        heatmaps: Tensor = self.network(images if self.same else images * self.slope + self.offset)
        return heatmaps


def make_teacher(
    recipe: Recipe, phase: Phase, keypoints: KeypointSet, finished: Mapping[str, Mapping[str, Tensor]]
) -> Teacher | None:
    """The phase's teacher: the network of an earlier phase, or a checkpoint; None without the key.

    Raises:
        UserError: the checkpoint cannot be read, or predicts other joints.
    """
    if phase.teacher is None:
        return None
    students = phase_metadata(recipe, phase, keypoints)
    source = recipe.phase(phase.teacher)
    if source is not None:
        network = phase_network(recipe, source, len(keypoints), finished[source.name])
        return Teacher(network, phase_metadata(recipe, source, keypoints), students)
    checkpoint = load_checkpoint(phase.teacher)
    _check_joints(checkpoint, keypoints, f"teacher of phase {phase.name!r}, {phase.teacher},")
    network = checkpoint.build().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Teacher(network, checkpoint.metadata, students)


class StageOutputs:
    """What the finest branch of stages 1 to 4 put out in the last forward pass, ``(N, C, h, w)`` each."""

    def __init__(self, network: BiHRNet) -> None:
        self.features: dict[str, Tensor] = {}
        for name in _STAGES:
            getattr(network, name).register_forward_hook(self._hook(name))

    def _hook(self, name: str) -> Any:
        def keep(module: nn.Module, inputs: Any, output: Tensor | list[Tensor]) -> None:
            self.features[name] = output if isinstance(output, Tensor) else output[0]

        return keep

    def take(self) -> list[Tensor]:
        """The outputs by stage, forgotten here."""
        features = [self.features.pop(name) for name in _STAGES]
        self.features.clear()
        return features


def check_same_features(student: ModelConfig, teacher: ModelConfig, phase: Phase) -> None:
    """A :class:`UserError` where the stages' outputs of two networks differ in their channels."""
    if student.width != teacher.width:
        raise UserError(
            f"phase {phase.name}: loss feature compares stages of width {student.width} with those of width "
            f"{teacher.width} of teacher {phase.teacher!r}; give a teacher of the same width."
        )


def freeze_for_exact(model: nn.Module) -> None:
    """Leave what the exact form does not bind: thresholds, PReLU slopes, and the head, whose sum flips no sign."""
    model.requires_grad_(False)
    for name, module in model.named_modules():
        if isinstance(module, (RSign, nn.PReLU)) or name == "head":
            module.requires_grad_(True)


def set_training(model: nn.Module, phase: Phase) -> None:
    """Training mode; in the exact form BatchNorm is a constant and stays one."""
    model.train()
    if phase.exact:
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Decay only real-valued kernels: pulling a latent binary weight to zero only makes its sign unstable."""
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for module in model.modules():
        binary = isinstance(module, BinaryConv2d)
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.requires_grad:
                kernel = isinstance(module, nn.Conv2d) and name == "weight" and not binary
                (decayed if kernel else plain).append(parameter)
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


@torch.no_grad()
def clip_latent_weights(model: nn.Module) -> None:
    """Keep what signs are taken of within ±1, outside which the straight-through estimator has no gradient."""
    for module in model.modules():
        if isinstance(module, BinaryConv2d) and module.binarize and module.weight.requires_grad:
            module.weight.clamp_(-1.0, 1.0)


def ema_rate(decay: float, updates: int) -> float:
    """Decay after that many updates: low at first, so that the average soon forgets where it began."""
    return min(decay, (1 + updates) / (10 + updates))


def make_ema(model: nn.Module, decay: float) -> AveragedModel:
    """Exponential moving average of weights and BatchNorm statistics; integers are copied.

    The first update copies; update ``n`` (from 1) is ``average += (1 - ema_rate(decay, n)) * (current - average)``.
    """

    @torch.no_grad()
    def update(averages: list[Tensor], currents: list[Tensor], updates: Tensor | int) -> None:
        if averages[0].is_floating_point():
            torch._foreach_lerp_(averages, currents, 1.0 - ema_rate(decay, int(updates)))
        else:
            torch._foreach_copy_(averages, currents)

    average = AveragedModel(model, multi_avg_fn=update, use_buffers=True)  # type: ignore[arg-type]
    average.requires_grad_(False)
    return average
