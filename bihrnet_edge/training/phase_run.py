"""One phase at work: its networks and optimizer, and one step with them."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from bihrnet_edge.errors import UserError
from bihrnet_edge.model.config import HEATMAP_STRIDE
from bihrnet_edge.model.hrnet import BiHRNet
from bihrnet_edge.model.statistics import center_thresholds, reestimate_batchnorm
from bihrnet_edge.pose.metadata import PoseMetadata
from bihrnet_edge.training.augment import Batch
from bihrnet_edge.training.log import Meter
from bihrnet_edge.training.losses import Term, awing_loss, feature_loss, kl_loss, mse_loss, target_kl_loss
from bihrnet_edge.training.networks import (
    StageOutputs,
    Start,
    Teacher,
    check_same_features,
    clip_latent_weights,
    freeze_for_exact,
    make_ema,
    make_teacher,
    parameter_groups,
    phase_metadata,
    phase_network,
    set_training,
)
from bihrnet_edge.training.people import People
from bihrnet_edge.training.phase import Phase
from bihrnet_edge.training.processes import restore_statistics, share_of, together
from bihrnet_edge.training.recipe import Recipe
from bihrnet_edge.training.schedule import rate_factor
from bihrnet_edge.training.state import RunState
from bihrnet_edge.training.targets import gaussian_targets


@dataclass
class PhaseRun:
    """What one phase works with.

    Attributes:
        phase, metadata, seed: what it trains, on which images, in which order.
        model: the network itself.
        wrapped: the same as Fabric runs it; its backward pass averages gradients over the processes.
        optimizer: as Fabric runs it.
        ema: the moving average of the weights, or None.
        teacher: the frozen network, or None.
        outputs: the stages' outputs of student and teacher, where loss ``feature`` wants them.
        failure: why this process, one of several, has no more images; they learn of it with the losses.
    """

    phase: Phase
    metadata: PoseMetadata
    seed: int
    people: People
    fabric: Fabric
    model: BiHRNet
    wrapped: nn.Module
    optimizer: torch.optim.Optimizer
    ema: AveragedModel | None
    teacher: Teacher | None
    outputs: tuple[StageOutputs, StageOutputs] | None
    failure: UserError | None = None

    @property
    def measured(self) -> nn.Module:
        """What is measured and kept: the average of the weights where there is one."""
        return self.model if self.ema is None else self.ema.module

    @classmethod
    def set_up(
        cls, recipe: Recipe, phase: Phase, state: RunState, start: Start, people: People, fabric: Fabric
    ) -> PhaseRun:
        """From ``start``, or in the middle of the phase from ``state``."""
        keypoints = people.keypoints
        metadata = phase_metadata(recipe, phase, keypoints)
        fresh = state.step == 0
        model = phase_network(recipe, phase, len(keypoints), start.weights if fresh else state.model)
        model = model.to(fabric.device)
        if fresh:
            with together(fabric):
                _adapt(model, phase, start, people, metadata, recipe.seed)
        if phase.exact:
            freeze_for_exact(model)
        if (teacher := make_teacher(recipe, phase, keypoints, state.finished)) is not None:
            teacher = teacher.to(fabric.device)
            if "feature" in phase.losses:
                check_same_features(model.config, teacher.network.config, phase)
        # Fused AdamW unscales by itself, which Fabric does not combine with clipping under a gradient scaler.
        optimizer = torch.optim.AdamW(parameter_groups(model, phase.weight_decay), fused=recipe.precision != "16-mixed")
        if state.optimizer is not None:
            optimizer.load_state_dict(state.optimizer)
        wrapped, fabric_optimizer = fabric.setup(model, optimizer)  # all have the first process' weights from here on
        ema = make_ema(model, phase.ema_decay) if phase.ema_decay else None
        outputs = None
        if teacher is not None and "feature" in phase.losses:
            outputs = StageOutputs(model), StageOutputs(teacher.network)
        if not fresh:
            assert state.statistics is not None
            restore_statistics(fabric, model, state.statistics)
            fabric.strategy.precision.load_state_dict(state.scaler)
            if ema is not None and state.ema is not None and state.ema_statistics is not None:
                ema.load_state_dict(state.ema)
                restore_statistics(fabric, ema, state.ema_statistics)
        set_training(model, phase)
        seed = recipe.seed * 1_000_003 + state.phase
        return cls(phase, metadata, seed, people, fabric, model, wrapped, fabric_optimizer, ema, teacher, outputs)

    def batches(self, start: int) -> Generator[Batch, None, None]:
        """This process' shares of the batches from step ``start`` on; to be closed."""
        return self.people.batches(self.phase, self.metadata, self.seed, start, self.fabric)

    def _next(self, batches: Iterator[Batch]) -> Batch:
        """The next batch; of several processes one that fails goes on with a blank one until all know of it."""
        try:
            if self.failure is None:
                return next(batches)
        except UserError as error:
            if self.fabric.world_size == 1:
                raise
            self.failure = error
        share = share_of(self.phase.batch, self.fabric)
        count, joints = share.stop - share.start, len(self.people.keypoints)
        device = self.fabric.device
        return Batch(
            torch.zeros(count, 3, *self.phase.size, device=device),
            torch.zeros(count, joints, 2, device=device),
            torch.zeros(count, joints, dtype=torch.bool, device=device),
        )

    def step(self, step: int, batches: Iterator[Batch], save: bool, meter: Meter) -> tuple[Tensor, Tensor]:
        """Train on the next of ``batches``, this process' share.

        Returns:
            the losses of the global batch ``(losses,)`` in the recipe's order, and ``(2,)`` how many processes want
            to ``save`` and how many have a ``failure``; both are the same everywhere.
        """
        phase, fabric = self.phase, self.fabric
        with meter.waiting():
            batch = self._next(batches)
        per_epoch = self.people.per_epoch(phase)
        factor = rate_factor(
            step,
            per_epoch * phase.epochs,
            schedule=phase.schedule,
            warmup=phase.warmup,
            per_epoch=per_epoch,
            milestones=phase.milestones,
            gamma=phase.gamma,
        )
        for group in self.optimizer.param_groups:
            group["lr"] = phase.learning_rate * factor
        self.optimizer.zero_grad(set_to_none=True)
        terms = self._losses(batch)
        flags = torch.tensor([float(save), float(self.failure is not None)], device=fabric.device)
        shared = torch.cat([torch.stack([t.total.detach() for t in terms] + [t.divisor for t in terms]), flags])
        if fabric.world_size > 1:
            shared = fabric.all_reduce(shared, reduce_op="sum")  # type: ignore[assignment]
        counts = shared[len(terms) : -2].clamp_min(1.0)
        weights = torch.tensor(list(phase.losses.values()), dtype=torch.float32, device=fabric.device)
        # Fabric averages gradients over the processes; what is wanted is the mean over all of the batch's joints.
        loss = (torch.stack([t.total for t in terms]) * weights / counts).sum() * fabric.world_size
        fabric.backward(loss)
        if phase.gradient_clip:
            fabric.clip_gradients(self.wrapped, self.optimizer, max_norm=phase.gradient_clip, error_if_nonfinite=False)
        self.optimizer.step()
        clip_latent_weights(self.model)
        if self.ema is not None:
            self.ema.update_parameters(self.model)
        return shared[: len(terms)] / counts, shared[-2:]

    def _losses(self, batch: Batch) -> list[Term]:
        phase = self.phase
        images = batch.images.contiguous(memory_format=torch.channels_last)
        predicted = self.wrapped(images).float().contiguous()
        height, width = predicted.shape[2:]
        target = gaussian_targets(batch.points / HEATMAP_STRIDE, height, width, phase.sigma)
        soft = None
        if self.teacher is not None:
            with self.fabric.autocast():
                soft = self.teacher(images).float().contiguous()
        terms = []
        for name in phase.losses:
            if name == "teacher_kl":
                assert soft is not None
                term = kl_loss(predicted, soft, batch.visible, temperature=phase.temperature)
            elif name == "target_kl":
                term = target_kl_loss(predicted, target, batch.visible, temperature=phase.temperature)
            elif name == "feature":
                assert self.outputs is not None
                term = feature_loss(self.outputs[0].take(), self.outputs[1].take())
            else:
                term = {"mse": mse_loss, "awing": awing_loss}[name](predicted, target, batch.visible)
            terms.append(term)
        return terms


def _adapt(model: BiHRNet, phase: Phase, start: Start, people: People, metadata: PoseMetadata, seed: int) -> None:
    """Fit thresholds and statistics to a network whose layers were real-valued until now."""
    if phase.network in (start.network, "twin"):
        return
    # Not shared out: Fabric copies the first process' network to the others, so that one has to be right by itself.
    if start.network in (None, "twin"):
        center_thresholds(model, next(people.plain_images(phase, metadata, seed, None)))
    reestimate_batchnorm(model, people.plain_images(phase, metadata, seed, None))
