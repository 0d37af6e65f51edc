"""The training loop: phases in order, each step a function of (seed, phase, step), so that a run resumes exactly."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor

from bihrnet_edge.data.dataset import PoseDataset
from bihrnet_edge.errors import UserError
from bihrnet_edge.files import make_folder
from bihrnet_edge.model.checkpoint import Checkpoint, save_checkpoint
from bihrnet_edge.model.exact import make_exact
from bihrnet_edge.model.hrnet import BiHRNet
from bihrnet_edge.model.packing import COUNTER
from bihrnet_edge.model.statistics import reestimate_batchnorm
from bihrnet_edge.pose.metadata import PoseMetadata
from bihrnet_edge.training.augment import Batch
from bihrnet_edge.training.loader import worker_losses
from bihrnet_edge.training.log import Meter, RunLog
from bihrnet_edge.training.networks import Start, load_start, phase_config, phase_metadata, set_training
from bihrnet_edge.training.people import People
from bihrnet_edge.training.phase import Phase
from bihrnet_edge.training.phase_run import PhaseRun
from bihrnet_edge.training.processes import average_statistics, gather_statistics, make_fabric, together
from bihrnet_edge.training.recipe import Recipe
from bihrnet_edge.training.state import Best, RunState, load_state, run_digest, save_state

#: The logged losses are averages over about the last 50 steps.
_RUNNING = 0.98
#: An accelerator works ahead of the host: figures are fetched once in so many steps.
_FETCH_STEPS = 20
Progress = Callable[[str, int, int, dict[str, float]], None]


class Trainer:
    """Runs a recipe in a folder; started again on the same folder it goes on where it stopped.

    Args:
        recipe: what to train.
        folder: holds the state, the log and, in the end, the checkpoints.
        train, val: the data sets; ``val`` is only measured on.
        progress: called with (phase, step, steps, figures).
        fabric: processes and devices; one process on the CPU unless given. :meth:`run` launches it.
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
        fabric: Fabric | None = None,
        save_seconds: float = 120.0,
    ) -> None:
        self.recipe = recipe
        self.fabric = fabric or make_fabric(precision=recipe.precision)
        self.progress = progress or (lambda phase, step, steps, figures: None)
        self.save_seconds = save_seconds
        _check_joints(recipe, train, val)
        world = self.fabric.world_size
        for phase in recipe.phases:
            if phase.batch % world or phase.batch < 2 * world:
                raise UserError(
                    f"phase {phase.name}: batch {phase.batch} is shared by {world} processes, of which each takes as "
                    f"many and at least 2; give a multiple of {world}."
                )
        self.keypoints = train.keypoints
        self.folder = make_folder(folder)
        self.state_path = self.folder / "state.pt"
        # Before the other processes start, so that they find the crops, and nobody waits for one that failed.
        with worker_losses():
            self.people = People(recipe, self.folder, train, val, self.progress)
        self.log: RunLog

    def run(self) -> Checkpoint:
        """Train what is left to train; returns the last phase's network, a binary one in its exact form."""
        self.fabric.launch()
        self.people.to(self.fabric.device)
        state = self._load()
        self.log = RunLog(self.folder, state.log_lines, active=self.fabric.is_global_zero)
        try:
            with worker_losses():
                for index, phase in enumerate(self.recipe.phases):
                    if phase.name not in state.finished:
                        state = self._train_phase(index, phase, state)
                return self._finish(state)
        finally:
            self.log.close()

    def _train_phase(self, index: int, phase: Phase, state: RunState) -> RunState:
        start = self._start(index, state)
        if index != state.phase:
            state = RunState(index, 0, {}, state.finished, self.log.lines)
        weights = self._run_phase(phase, state, start)
        finished = state.finished | {phase.name: weights}
        # A checkpoint knows binary or not; real weights behind binary activations would load as binary ones.
        if phase.network != "binary-activations" and self.fabric.is_global_zero:
            name = f"{self.recipe.name}-{phase.name}"
            save_checkpoint(self.folder / f"{phase.name}.pt", self._checkpoint(phase, weights, name))
        later = {p.teacher for p in self.recipe.phases[index + 1 :]} | {phase.name}
        finished = {name: kept if name in later else {} for name, kept in finished.items()}
        state = RunState(index, state.step, {}, finished, self.log.lines)
        self._write_state(state)
        return state

    def _finish(self, state: RunState) -> Checkpoint:
        last = self.recipe.phases[-1]
        checkpoint = self._checkpoint(last, state.finished[last.name], self.recipe.name)
        binary = last.network == "binary"
        if binary and not last.exact:
            checkpoint = make_exact(checkpoint)
        if self.fabric.is_global_zero:
            save_checkpoint(self.folder / f"{self.recipe.name}.pt", checkpoint, packed=binary)
        network = checkpoint.build().to(self.fabric.device)
        value = self.people.evaluate(network, last, checkpoint.metadata, self.fabric)
        self.log.epoch("final", last.name, last.epochs, (), {}, {"val_pck": value})
        return checkpoint

    def _checkpoint(self, phase: Phase, weights: Mapping[str, Tensor], name: str) -> Checkpoint:
        return Checkpoint(
            phase_metadata(self.recipe, phase, self.keypoints, name),
            phase_config(self.recipe, phase, len(self.keypoints)),
            {name: tensor for name, tensor in weights.items() if not name.endswith(COUNTER)},
        )

    def _start(self, index: int, state: RunState) -> Start:
        """What a phase starts from: its ``init``, the phase before, or random weights."""
        phase = self.recipe.phases[index]
        if phase.init is not None:
            start = load_start(phase.init, self.recipe, phase, self.keypoints)
        elif index > 0:
            before = self.recipe.phases[index - 1]
            start = Start(state.finished[before.name], before.network, before.exact)
        else:
            torch.manual_seed(self.recipe.seed % 2**63)
            return Start(BiHRNet(phase_config(self.recipe, phase, len(self.keypoints))).state_dict())
        if phase.exact and not start.exact:
            plain = Checkpoint(
                PoseMetadata(self.recipe.name, *phase.size, self.keypoints),
                self.recipe.model_config(len(self.keypoints), "binary"),
                start.weights,
            )
            start = Start(make_exact(plain).state, "binary", True)
        return start

    def _run_phase(self, phase: Phase, state: RunState, start: Start) -> dict[str, Tensor]:
        run = PhaseRun.set_up(self.recipe, phase, state, start, self.people, self.fabric)
        with contextlib.closing(run.batches(state.step)) as batches:
            figures = self._run_steps(run, state, batches)
        if state.best is not None:
            run.measured.load_state_dict(state.best.model)
        if not phase.exact:
            with together(self.fabric):
                reestimate_batchnorm(run.measured, self.people.plain_images(phase, run.metadata, run.seed, self.fabric))
            average_statistics(self.fabric, run.measured)
        self._measure(run, phase.epochs, figures, "reestimated")
        return _copy(run.measured.state_dict())

    def _run_steps(self, run: PhaseRun, state: RunState, batches: Iterator[Batch]) -> dict[str, float]:
        """What is left of a phase's steps; returns the last running losses."""
        phase, per_epoch = run.phase, self.people.per_epoch(run.phase)
        fetch = 1 if self.fabric.device.type == "cpu" else _FETCH_STEPS
        running = None if state.running is None else state.running.to(self.fabric.device)
        figures: dict[str, float] = {}
        saved, meter = time.monotonic(), Meter()
        while state.step < per_epoch * phase.epochs and not _is_over(phase, state, per_epoch):
            due = self.fabric.is_global_zero and time.monotonic() - saved > self.save_seconds
            losses, flags = run.step(state.step, batches, due, meter)
            running = losses if running is None else _RUNNING * running + (1 - _RUNNING) * losses
            state.step += 1
            epoch_ends = state.step % per_epoch == 0
            fetched = epoch_ends or state.step % fetch == 0
            if fetched:
                figures = dict(zip(phase.losses, running.tolist(), strict=True))
                if flags[1] > 0:
                    with together(self.fabric):
                        if run.failure is not None:
                            raise run.failure
                if not bool(torch.isfinite(running).all()):
                    raise UserError(
                        f"phase {phase.name}: the loss is not finite at step {state.step - 1}; lower learning_rate."
                    )
            shown = figures | meter.count(phase.batch)
            self.progress(phase.name, state.step, per_epoch * phase.epochs, shown)
            if epoch_ends:
                self._end_epoch(run, state, state.step // per_epoch, shown)
                meter = Meter()
            if fetched and flags[0] > 0:
                self._save_step(run, state, running)
                saved = time.monotonic()
        return figures

    def _end_epoch(self, run: PhaseRun, state: RunState, epoch: int, figures: dict[str, float]) -> None:
        average_statistics(self.fabric, run.model)
        if run.ema is not None:
            average_statistics(self.fabric, run.ema)
        values = self._measure(run, epoch, figures, "epoch")
        set_training(run.model, run.phase)
        if run.phase.early_stopping:
            value = values["tuning_pck"]
            if state.best is None or value > state.best.value:
                state.best = Best(value, epoch, _copy(run.measured.state_dict()))

    def _measure(self, run: PhaseRun, epoch: int, figures: dict[str, float], event: str) -> dict[str, float]:
        """Measure, and log it."""
        phase = run.phase
        values = {"val_pck": self.people.evaluate(run.measured, phase, run.metadata, self.fabric)}
        if len(self.people.tuning):
            values["tuning_pck"] = self.people.evaluate(run.measured, phase, run.metadata, self.fabric, tuning=True)
        self.log.epoch(event, phase.name, epoch, tuple(phase.losses), figures, values)
        return values

    def _save_step(self, run: PhaseRun, state: RunState, running: Tensor) -> None:
        state.statistics = gather_statistics(self.fabric, run.model)
        if run.ema is not None:
            state.ema_statistics = gather_statistics(self.fabric, run.ema)
            state.ema = run.ema.state_dict()
        state.model, state.optimizer = run.model.state_dict(), run.optimizer.state_dict()
        state.scaler = self.fabric.strategy.precision.state_dict()
        state.running, state.log_lines = running, self.log.lines
        self._write_state(state)

    def _write_state(self, state: RunState) -> None:
        if self.fabric.is_global_zero:
            save_state(self.state_path, state, self.recipe, run_digest(self.recipe, self.keypoints))

    def _load(self) -> RunState:
        """The first process' state, for all of them; an error is raised by all, so that none waits for another."""
        outcome: RunState | UserError | None = None
        if self.fabric.is_global_zero:
            try:
                outcome = load_state(self.state_path, self.recipe, run_digest(self.recipe, self.keypoints))
            except UserError as error:
                outcome = error
        outcome = self.fabric.broadcast(outcome)
        if isinstance(outcome, UserError):
            raise outcome
        return outcome or RunState(0, 0, {}, {})


def _is_over(phase: Phase, state: RunState, per_epoch: int) -> bool:
    """Whether early stopping ends the phase here, at the beginning of an epoch."""
    if state.best is None or state.step % per_epoch:
        return False
    return state.step // per_epoch - state.best.epoch >= phase.early_stopping


def _copy(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key: value.detach().cpu().contiguous().clone() for key, value in state.items()}


def _check_joints(recipe: Recipe, train: PoseDataset, val: PoseDataset) -> None:
    if train.keypoints.keypoints != val.keypoints.keypoints:
        raise UserError(f"recipe {recipe.name}: training and validation sets name different joints.")
    for joint in ("right_shoulder", "left_hip"):
        if train.keypoints.index(joint) is None:
            raise UserError(
                f"recipe {recipe.name}: keypoint set {train.keypoints.name!r} has no joint {joint!r}, "
                "without which training cannot measure PCK by the torso; give annotations that name it."
            )
