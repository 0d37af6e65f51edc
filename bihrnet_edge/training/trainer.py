"""The training loop: phases in order, each step a function of (seed, phase, step), so that a run resumes exactly."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bihrnet_edge.data.dataset import PoseDataset
from bihrnet_edge.errors import UserError
from bihrnet_edge.files import atomic_path, make_folder
from bihrnet_edge.metrics.pck import pck, torso_length
from bihrnet_edge.model.binary import BinaryConv2d
from bihrnet_edge.model.checkpoint import Checkpoint, save_checkpoint
from bihrnet_edge.model.config import HEATMAP_STRIDE
from bihrnet_edge.model.exact import make_exact
from bihrnet_edge.model.hrnet import BiHRNet
from bihrnet_edge.model.statistics import center_thresholds, reestimate_batchnorm
from bihrnet_edge.pose.heatmaps import decode, encode
from bihrnet_edge.pose.metadata import PoseMetadata
from bihrnet_edge.training.augment import Batch, CropCache
from bihrnet_edge.training.losses import awing_loss, kl_loss, mse_loss, target_kl_loss
from bihrnet_edge.training.recipe import Network, Phase, Recipe

_REESTIMATION_BATCHES = 60
_GRADIENT_NORM = 5.0
#: Number of seeds that torch takes.
_SEEDS = 2**63
Progress = Callable[[str, int, int, dict[str, float]], None]


@dataclass
class _State:
    """Where a run stands: everything that is needed to go on from here."""

    phase: int
    step: int
    model: dict[str, Tensor]
    optimizer: dict[str, Any] | None
    finished: dict[str, dict[str, Tensor]]


class Trainer:
    """Runs a recipe in a folder; started again on the same folder it goes on where it stopped.

    Args:
        recipe: what to train.
        folder: holds the state, the log (one JSON object a line) and, in the end, the checkpoints.
        train, val: the data sets; ``val`` is only measured on.
        progress: called with (phase, step, steps, figures).
        save_seconds: the state is written this often, so that at most that much is lost.
    """

    def __init__(
        self,
        recipe: Recipe,
        folder: Path,
        train: PoseDataset,
        val: PoseDataset,
        progress: Progress | None = None,
        *,
        save_seconds: float = 120.0,
    ) -> None:
        self.recipe = recipe
        self.folder = make_folder(folder)
        self.save_seconds = save_seconds
        self.progress = progress or (lambda phase, step, steps, figures: None)
        if train.keypoints.keypoints != val.keypoints.keypoints:
            raise UserError(f"recipe {recipe.name}: training and validation sets name different joints.")
        for joint in ("right_shoulder", "left_hip"):
            if train.keypoints.index(joint) is None:
                raise UserError(
                    f"recipe {recipe.name}: keypoint set {train.keypoints.name!r} has no joint {joint!r}, "
                    "without which training cannot measure PCK by the torso; give annotations that name it."
                )
        self.keypoints = train.keypoints
        self.train_cache = self._cache(train, "train")
        self.val_cache = self._cache(val, "val")

    def _metadata(self, phase: Phase, name: str | None = None) -> PoseMetadata:
        return PoseMetadata(name or self.recipe.name, *phase.size, self.keypoints)

    def _cache(self, dataset: PoseDataset, split: str) -> CropCache:
        return CropCache.build(
            dataset,
            self._metadata(self.recipe.phases[0]),
            canvas_height=self.recipe.canvas,
            cache=self.folder / f"{split}-crops.npy",
            progress=lambda done, total: self.progress(f"reading {split}", done, total, {}),
        )

    def run(self) -> Checkpoint:
        """Train what is left to train; returns the last phase's network, a binary one in its exact form."""
        state = self._load()
        for index, phase in enumerate(self.recipe.phases):
            if phase.name in state.finished:
                continue
            if index != state.phase:
                state = _State(index, 0, self._initial(index, state), None, state.finished)
            weights = self._run_phase(phase, state)
            state.finished[phase.name] = weights
            state = _State(index, state.step, weights, None, state.finished)
            # A checkpoint knows binary or not; real weights behind binary activations would load as binary ones.
            if phase.network != "binary-activations":
                name = f"{self.recipe.name}-{phase.name}"
                save_checkpoint(self.folder / f"{phase.name}.pt", self._checkpoint(phase, weights, name))
            self._save(state)
        last = self.recipe.phases[-1]
        checkpoint = self._checkpoint(last, state.finished[last.name], self.recipe.name)
        binary = last.network == "binary"
        if binary:
            checkpoint = make_exact(checkpoint)
        save_checkpoint(self.folder / f"{self.recipe.name}.pt", checkpoint, packed=binary)
        return checkpoint

    def _checkpoint(self, phase: Phase, weights: dict[str, Tensor], name: str) -> Checkpoint:
        return Checkpoint(
            self._metadata(phase, name), self.recipe.model_config(len(self.keypoints), phase.network), dict(weights)
        )

    def _initial(self, index: int, state: _State) -> dict[str, Tensor]:
        """The previous phase's weights; a first phase starts from random ones."""
        if index > 0:
            return state.finished[self.recipe.phases[index - 1].name]
        torch.manual_seed(self.recipe.seed % _SEEDS)
        return BiHRNet(self.recipe.model_config(len(self.keypoints), self.recipe.phases[0].network)).state_dict()

    def _network(self, network: Network, weights: dict[str, Tensor]) -> BiHRNet:
        model = BiHRNet(self.recipe.model_config(len(self.keypoints), network))
        model.load_state_dict({**model.state_dict(), **weights})
        for module in model.modules():
            if isinstance(module, BinaryConv2d):
                module.binarize = network == "binary"
        return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]

    def _run_phase(self, phase: Phase, state: _State) -> dict[str, Tensor]:
        model = self._network(phase.network, state.model)
        teacher = None
        if phase.teacher is not None:
            source = next(p for p in self.recipe.phases if p.name == phase.teacher)
            teacher = self._network(source.network, state.finished[source.name]).eval().requires_grad_(False)
        metadata = self._metadata(phase)
        seed = self.recipe.seed * 1_000_003 + state.phase
        if state.step == 0:
            self._adapt(model, phase, state, metadata)
        optimizer = torch.optim.AdamW(_parameter_groups(model, phase.weight_decay), fused=True)
        if state.optimizer is not None:
            optimizer.load_state_dict(state.optimizer)

        per_epoch = len(self.train_cache) // phase.batch
        if per_epoch == 0:
            raise UserError(f"phase {phase.name}: batch {phase.batch} is larger than the training set.")
        total = per_epoch * phase.epochs
        model.train()
        saved = started = time.monotonic()
        first = state.step
        running: dict[str, float] = {}
        for step, indices in self._steps(phase, seed, per_epoch, state.step):
            generator = _generator(seed * 1_000_000 + step)
            batch = self.train_cache.batch(indices, phase.size, metadata, self.recipe.augmentation, generator)
            for group in optimizer.param_groups:
                group["lr"] = phase.learning_rate * _schedule(step / total, phase.warmup)
            optimizer.zero_grad(set_to_none=True)
            losses = self._losses(model, teacher, batch, phase)
            total_loss = torch.stack([phase.losses[name] * value for name, value in losses.items()]).sum()
            if not torch.isfinite(total_loss):
                raise UserError(f"phase {phase.name}: the loss is not finite at step {step}; lower learning_rate.")
            total_loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(model.parameters(), _GRADIENT_NORM)
            optimizer.step()
            _clip_latent_weights(model)
            for name, value in losses.items():
                running[name] = 0.98 * running.get(name, value.item()) + 0.02 * value.item()

            state.step = step + 1
            speed = (state.step - first) * phase.batch / (time.monotonic() - started)
            self.progress(phase.name, state.step, total, {**running, "images/s": speed})
            if state.step % per_epoch == 0:
                self._log(phase, state.step // per_epoch, running, self.evaluate(model, phase, metadata), speed)
                model.train()
            if time.monotonic() - saved > self.save_seconds:
                state.model, state.optimizer = model.state_dict(), optimizer.state_dict()
                self._save(state)
                saved = time.monotonic()
        reestimate_batchnorm(model, self._plain_batches(phase, metadata, seed))
        self._log(phase, phase.epochs, running, self.evaluate(model, phase, metadata), 0.0, event="reestimated")
        return {key: value.detach().contiguous().clone() for key, value in model.state_dict().items()}

    def _adapt(self, model: BiHRNet, phase: Phase, state: _State, metadata: PoseMetadata) -> None:
        """Fit thresholds and statistics to a network whose layers were real-valued until now."""
        previous = self.recipe.phases[state.phase - 1].network if state.phase else None
        if phase.network == previous or phase.network == "twin":
            return
        seed = self.recipe.seed
        if previous in (None, "twin"):
            center_thresholds(model, next(self._plain_batches(phase, metadata, seed)))
        reestimate_batchnorm(model, self._plain_batches(phase, metadata, seed))

    def _steps(self, phase: Phase, seed: int, per_epoch: int, start: int) -> Iterator[tuple[int, Tensor]]:
        for epoch in range(start // per_epoch, phase.epochs):
            order = torch.randperm(len(self.train_cache), generator=_generator(seed * 1_000_000 + epoch))
            for i in range(start - epoch * per_epoch if epoch == start // per_epoch else 0, per_epoch):
                yield epoch * per_epoch + i, order[i * phase.batch : (i + 1) * phase.batch]

    def _plain_batches(self, phase: Phase, metadata: PoseMetadata, seed: int) -> Iterator[Tensor]:
        order = torch.randperm(len(self.train_cache), generator=_generator(seed))
        for indices in torch.split(order, phase.batch)[:_REESTIMATION_BATCHES]:
            images = self.train_cache.batch(indices, phase.size, metadata).images
            yield images.contiguous(memory_format=torch.channels_last)

    def _losses(self, model: nn.Module, teacher: nn.Module | None, batch: Batch, phase: Phase) -> dict[str, Tensor]:
        images = batch.images.contiguous(memory_format=torch.channels_last)
        predicted = model(images).contiguous()
        height, width = predicted.shape[2:]
        target = torch.from_numpy(encode((batch.points / HEATMAP_STRIDE).numpy(), height, width, phase.sigma))
        losses: dict[str, Tensor] = {}
        for name in phase.losses:
            if name == "teacher_kl":
                assert teacher is not None
                with torch.no_grad():
                    soft = teacher(images).contiguous()
                losses[name] = kl_loss(predicted, soft, batch.visible)
            else:
                function = {"mse": mse_loss, "awing": awing_loss, "target_kl": target_kl_loss}[name]
                losses[name] = function(predicted, target, batch.visible)
        return losses

    @torch.no_grad()
    def evaluate(self, model: nn.Module, phase: Phase, metadata: PoseMetadata) -> float:
        """PCK@0.2 of the torso on the validation crops, percent."""
        model.eval()
        predicted, truth = [], []
        for indices in torch.split(torch.arange(len(self.val_cache)), 64):
            batch = self.val_cache.batch(indices, phase.size, metadata)
            heatmaps = model(batch.images.contiguous(memory_format=torch.channels_last)).contiguous()
            predicted.append(decode(heatmaps.numpy())[0] * HEATMAP_STRIDE)
            truth.append(batch.points.numpy())
        real, visible = np.concatenate(truth), self.val_cache.visible.numpy()
        reference = torso_length(real, visible, self.keypoints)
        return pck(np.concatenate(predicted), real, visible, reference, threshold=0.2).mean

    def _log(
        self, phase: Phase, epoch: int, losses: dict[str, float], value: float, speed: float, event: str = "epoch"
    ) -> None:
        entry = {
            "event": event,
            "phase": phase.name,
            "epoch": epoch,
            "val_pck": round(value, 2),
            "losses": {name: round(loss, 4) for name, loss in losses.items()},
            "images_per_second": round(speed, 1),
        }
        with (self.folder / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")

    @property
    def _state_path(self) -> Path:
        return self.folder / "state.pt"

    def _digest(self) -> str:
        """SHA-256 of all that the states of two runs must share, which where the data lie is not."""
        recipe = self.recipe
        content = {
            "model": recipe.model_config(len(self.keypoints), "binary").to_dict(),
            "phases": [dataclasses.asdict(phase) for phase in recipe.phases],
            "augmentation": dataclasses.asdict(recipe.augmentation),
            "seed": recipe.seed,
            "canvas": recipe.canvas,
            "joints": self.keypoints.keypoints,
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def _save(self, state: _State) -> None:
        with atomic_path(self._state_path) as temporary:
            torch.save(vars(state) | {"recipe": self.recipe.name, "digest": self._digest()}, temporary)

    def _load(self) -> _State:
        if not self._state_path.exists():
            return _State(0, 0, self._initial(0, _State(0, 0, {}, None, {})), None, {})
        try:
            values = torch.load(self._state_path, weights_only=True)
            name, digest = values.pop("recipe"), values.pop("digest", None)
            state = _State(**values)
        except Exception as error:
            raise UserError(f"{self._state_path} cannot be read ({error}); remove it to start afresh.") from error
        if name != self.recipe.name:
            raise UserError(f"{self.folder} holds a run of recipe {name!r}; choose another folder.")
        if digest != self._digest():
            raise UserError(
                f"{self._state_path} is of recipe {name!r} with another network, phases, augmentation, seed, canvas or "
                "joints; choose another folder, or remove that file to start afresh."
            )
        return state


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed % _SEEDS)


def _schedule(done: float, warmup: float) -> float:
    if done < warmup:
        return (done + 1e-3) / (warmup + 1e-3)
    return 0.5 * (1 + math.cos(math.pi * (done - warmup) / (1 - warmup)))


def _parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Decay only real-valued kernels: pulling a latent binary weight to zero only makes its sign unstable."""
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for module in model.modules():
        binary = isinstance(module, BinaryConv2d)
        for name, parameter in module.named_parameters(recurse=False):
            kernel = isinstance(module, nn.Conv2d) and name == "weight" and not binary
            (decayed if kernel else plain).append(parameter)
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]


@torch.no_grad()
def _clip_latent_weights(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, BinaryConv2d) and module.binarize:
            module.weight.clamp_(-1.0, 1.0)
