"""Run as a program: one step of training on the toy, its gradients, losses and statistics into a file.

``gradients.py FOLDER OUT DEVICES NETWORK``; Fabric starts it once more for every other process.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

from bihrnet_edge.data.dataset import load_annotations
from bihrnet_edge.training.log import Meter
from bihrnet_edge.training.people import generator_of
from bihrnet_edge.training.phase import Phase
from bihrnet_edge.training.phase_run import PhaseRun
from bihrnet_edge.training.processes import average_statistics, make_fabric, share_of
from bihrnet_edge.training.recipe import Recipe
from bihrnet_edge.training.state import RunState
from bihrnet_edge.training.trainer import Trainer


def main() -> None:
    folder, out, devices, start = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    torch.set_num_threads(1)
    data = load_annotations(folder / "people.json", folder / "images")
    for i, person in enumerate(data.people[:6]):  # the first process' half: uneven numbers of labelled joints
        person.visible[: 1 + i % 2] = False
    losses = {"awing": 0.2, "mse": 1.0, "target_kl": 1.0, "teacher_kl": 1.0, "feature": 1.0}
    phase = Phase(
        "p", "binary", (32, 32), 1, losses, init=start, teacher=start, exact=True, batch=12, gradient_clip=0.0
    )
    recipe = Recipe("toy", "bihrnet-small", folder, folder, folder, folder, (phase,), canvas=64)
    fabric = make_fabric("cpu", devices)
    trainer = Trainer(recipe, out.parent / f"run{devices}", data, data, fabric=fabric)
    fabric.launch()
    state = RunState(0, 0, {}, {})
    run = PhaseRun.set_up(recipe, phase, state, trainer._start(0, state), trainer.people, fabric)
    batch = trainer.people.train.batch(
        torch.arange(12), phase.size, run.metadata, recipe.augmentation, generator_of(0), share_of(12, fabric)
    )
    values, (save, _) = run.step(0, iter([batch]), fabric.global_rank == 0, Meter())
    value = trainer.people.evaluate(run.model, phase, run.metadata, fabric)
    counters = torch.arange(3.0) + fabric.global_rank
    norm = torch.nn.BatchNorm1d(3)
    norm.running_mean = counters.clone()
    average_statistics(fabric, norm)
    if fabric.is_global_zero:
        gradients = {n: p.grad.clone() for n, p in run.model.named_parameters() if p.grad is not None}
        torch.save(
            {"gradients": gradients, "losses": values, "save": save, "value": float(np.float64(value)),
             "mean": norm.running_mean},
            out,
        )  # fmt: skip


if __name__ == "__main__":
    main()
