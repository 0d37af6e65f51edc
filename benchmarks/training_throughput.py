"""Images a second of training, and the share of the time that waits for images, by where people are read from.

    python benchmarks/training_throughput.py --annotations train.json --images images --folder cache

A recipe's ``data: {cache, workers}`` in every row, in turns, so that what makes the machine slow hits all alike. CPU
time is that of the training process and its workers together, of batches and steps, and says more than the clock where
other programs run as well; the last column is of the same round's first row. The folder keeps canvases for next time.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import resource
import time
from pathlib import Path
from statistics import median

import torch

from bihrnet_edge.data.dataset import load_annotations
from bihrnet_edge.files import make_folder
from bihrnet_edge.model.hrnet import BiHRNet
from bihrnet_edge.training.log import Meter
from bihrnet_edge.training.networks import Start, phase_config
from bihrnet_edge.training.people import People
from bihrnet_edge.training.phase import Phase
from bihrnet_edge.training.phase_run import PhaseRun
from bihrnet_edge.training.processes import make_fabric
from bihrnet_edge.training.recipe import Data, Recipe
from bihrnet_edge.training.state import RunState

_ROWS = (Data("memory", 0), Data("file", 1), Data("none", 0), Data("none", 1))


def _cpu_seconds() -> float:
    """Of this process and of those that it has started and waited for."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--annotations", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--preset", default="bihrnet-small")
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--people", type=int, default=1600)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--accelerator", choices=("cpu", "cuda"), default="cpu")
    arguments = parser.parse_args()

    torch.set_num_threads(arguments.threads)
    everyone = load_annotations(arguments.annotations, arguments.images)
    train = dataclasses.replace(everyone, people=everyone.people[: arguments.people])
    val = dataclasses.replace(everyone, people=everyone.people[:1])
    losses = {"awing": 0.2, "target_kl": 1.0}
    phase = Phase("p", "binary", (arguments.side, arguments.side), 10_000, losses, batch=arguments.batch)
    fabric = make_fabric(arguments.accelerator)
    folder = make_folder(arguments.folder)
    nowhere = Path("unused")
    rates: list[list[float]] = [[] for _ in _ROWS]
    waits: list[list[float]] = [[] for _ in _ROWS]
    costs: list[list[float]] = [[] for _ in _ROWS]
    for _ in range(arguments.rounds):
        for row, data in enumerate(_ROWS):
            recipe = Recipe(
                "throughput", arguments.preset, nowhere, nowhere, nowhere, nowhere, (phase,),
                data=data,
            )  # fmt: skip
            people = People(recipe, folder, train, val, lambda *unused: None)
            people.to(fabric.device)
            state = RunState(0, 0, {}, {})
            torch.manual_seed(0)
            network = BiHRNet(phase_config(recipe, phase, len(train.keypoints)))
            # As if it came from a binary one: nothing is estimated first.
            start = Start(network.state_dict(), "binary")
            run = PhaseRun.set_up(recipe, phase, state, start, people, fabric)
            spent = _cpu_seconds()
            with contextlib.closing(run.batches(0)) as batches:
                run.step(0, batches, False, Meter())  # starts the workers
                meter, started = Meter(), time.perf_counter()
                for step in range(1, arguments.steps + 1):
                    shown = run.step(step, batches, False, meter)
                    figures = meter.count(phase.batch)
                float(shown[0].sum())  # waits for the accelerator
                seconds = time.perf_counter() - started
            rates[row].append(arguments.steps * phase.batch / seconds)
            waits[row].append(figures["data_share"])
            costs[row].append(1000 * (_cpu_seconds() - spent) / ((arguments.steps + 1) * phase.batch))
            print(
                f"{data.cache}, {data.workers} workers: {rates[row][-1]:.1f}/s, {waits[row][-1]:.1%} waiting, "
                f"{costs[row][-1]:.1f} ms of CPU an image",
                flush=True,
            )
    print(
        f"\n{arguments.preset} {arguments.side}x{arguments.side}, batch {arguments.batch}, {arguments.accelerator}, "
        f"{arguments.threads} threads; median of {arguments.rounds} rounds of {arguments.steps} steps\n"
    )
    print("| cache | workers | images/s | waiting | CPU ms an image | against memory |\n|---|---|---|---|---|---|")
    for data, rate, wait, cost in zip(_ROWS, rates, waits, costs, strict=True):
        ratio = median(mine / first for mine, first in zip(rate, rates[0], strict=True))
        print(
            f"| {data.cache} | {data.workers} | {median(rate):.0f} | {median(wait):.1%} | {median(cost):.1f} "
            f"| {ratio:.2f}× |"
        )


if __name__ == "__main__":
    main()
