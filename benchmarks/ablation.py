"""The paper's ablation at a size that two CPU cores can train: bottleneck x block x loss, and the real-valued twin.

    BIHRNET_DATA=... python benchmarks/ablation.py --out runs/ablation --seeds 0,1,2 --jobs 2
    python benchmarks/ablation_table.py runs/ablation

For every seed and each of the four architectures (plain or IR Bottleneck, basic or MS-Block) a real-valued twin is
trained first; every binary network of that architecture then starts from it and has it as its teacher, and differs
from the others in the loss alone. Runs of one seed see the same people in the same order with the same random changes,
so that differences are paired.

One line a run goes to ``results.jsonl``; started again on its folder the script does what is left, a run that was
stopped goes on from its last state. Twins come before what needs them, seeds one after another, so that what is done
is a whole design for as many seeds as there was time for.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import multiprocessing
import os
import sys
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import torch

from bihrnet_edge.data.dataset import load_annotations
from bihrnet_edge.model.config import BlockName, BottleneckName, ModelConfig
from bihrnet_edge.training.augment import Augmentation
from bihrnet_edge.training.phase import Network, Phase
from bihrnet_edge.training.recipe import Recipe
from bihrnet_edge.training.trainer import Trainer

BOTTLENECKS: tuple[BottleneckName, ...] = ("plain", "ir")
BLOCKS: tuple[BlockName, ...] = ("basic", "ms")
#: Weights of the losses by the name that they have in the table.
LOSSES = {
    "MSE": {"mse": 1.0},
    "AWing": {"awing": 1.0},
    "AWing+KL": {"awing": 1.0, "teacher_kl": 1.0},
    "recipe": {"awing": 0.2, "target_kl": 1.0, "teacher_kl": 0.5},
}
#: What the twins learn with; of the losses above the one that gets furthest in little time.
TWIN_LOSSES = {"awing": 0.2, "target_kl": 1.0}
TWIN = "twin"
SIZE = (64, 64)
_WIDTH, _BLOCKS, _BOTTLENECKS = 16, 1, 2
_CROPS = ("train-crops.npy", "train-crops.sha256", "val-crops.npy", "val-crops.sha256")


@dataclass(frozen=True)
class Run:
    """One network to train; ``loss`` is a key of :data:`LOSSES`, or :data:`TWIN`."""

    seed: int
    bottleneck: BottleneckName
    block: BlockName
    loss: str

    @property
    def name(self) -> str:
        return f"{self.bottleneck}-{self.block}-{self.loss.replace('+', '-')}-{self.seed}"

    def twin(self) -> Run:
        return dataclasses.replace(self, loss=TWIN)


@dataclass(frozen=True)
class _Recipe(Recipe):
    """A recipe of a network that is smaller than any preset."""

    def model_config(self, keypoints: int, network: Network) -> ModelConfig:
        config = super().model_config(keypoints, network)
        return dataclasses.replace(config, width=_WIDTH, blocks=_BLOCKS, bottlenecks=_BOTTLENECKS)


def design(seeds: list[int]) -> Iterator[Run]:
    """All runs, in the order in which they are begun."""
    for seed in seeds:
        for loss in (TWIN, *LOSSES):
            for bottleneck, block in product(BOTTLENECKS, BLOCKS):
                # The recipe's own loss is there to compare losses, in the one architecture that ships.
                if loss != "recipe" or (bottleneck, block) == ("ir", "ms"):
                    yield Run(seed, bottleneck, block, loss)


def _recipe(run: Run, folder: Path, epochs: int) -> Recipe:
    lspet = Path(os.environ["BIHRNET_DATA"]).resolve() / "lspet"
    phase = Phase(name="net", network=TWIN, size=SIZE, epochs=epochs, losses=TWIN_LOSSES)
    if run.loss != TWIN:
        losses = LOSSES[run.loss]
        twin = str(folder / run.twin().name / "net.pt")
        teacher = twin if "teacher_kl" in losses else None
        phase = dataclasses.replace(phase, network="binary", losses=losses, init=twin, teacher=teacher)
    return _Recipe(
        name=run.name,
        preset="bihrnet-small",
        train_annotations=lspet / "person_keypoints_train.json",
        train_images=lspet / "images",
        val_annotations=lspet / "person_keypoints_val.json",
        val_images=lspet / "images",
        phases=(phase,),
        block=run.block,
        bottleneck=run.bottleneck,
        seed=run.seed,
        augmentation=Augmentation(rotation=25.0, scale=0.2),
    )


def train(run: Run, folder: Path, epochs: int) -> dict[str, object]:
    """Train one network, or go on with it; its line for the results."""
    torch.set_num_threads(1)
    mine, shared = folder / run.name, folder / "crops"
    mine.mkdir(parents=True, exist_ok=True)
    for name in _CROPS:
        if (shared / name).exists() and not (mine / name).exists():
            (mine / name).hardlink_to(shared / name)
    recipe = _recipe(run, folder, epochs)
    data = (
        load_annotations(recipe.train_annotations, recipe.train_images),
        load_annotations(recipe.val_annotations, recipe.val_images),
    )
    Trainer(recipe, mine, *data).run()
    lines = [json.loads(line) for line in (mine / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    (last,) = (line for line in lines if line["event"] == "reestimated")
    for name in _CROPS:
        if not (shared / name).exists():
            shared.mkdir(exist_ok=True)
            (shared / name).hardlink_to(mine / name)
        (mine / name).unlink()
    return dataclasses.asdict(run) | {
        "epochs": epochs,
        "pck": last["val_pck"],
        "curve": [line["val_pck"] for line in lines if line["event"] == "epoch"],
    }


def read_results(folder: Path) -> list[dict[str, object]]:
    """What is done."""
    path = folder / "results.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def _identity(line: dict[str, object]) -> tuple[object, ...]:
    return tuple(line[field.name] for field in dataclasses.fields(Run))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs and of results.jsonl")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--epochs", type=int, default=1, help="of every network, after its twin's as many")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, of one thread each")
    arguments = parser.parse_args()
    if "BIHRNET_DATA" not in os.environ:
        sys.exit("ablation: set BIHRNET_DATA to the folder that holds lspet/.")

    folder: Path = arguments.out
    folder.mkdir(parents=True, exist_ok=True)
    done = {_identity(line) for line in read_results(folder)}
    waiting = [run for run in design([int(s) for s in arguments.seeds.split(",")]) if _key(run) not in done]
    total = len(waiting)
    running: dict[Future[dict[str, object]], Run] = {}
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(arguments.jobs, mp_context=context) as pool:
        # The first run alone, so that the crops are made once.
        while waiting or running:
            jobs = arguments.jobs if (folder / "crops").exists() else 1
            ready = (run for run in waiting if run.loss == TWIN or _key(run.twin()) in done)
            while len(running) < jobs and (run := next(ready, None)) is not None:
                waiting.remove(run)
                running[pool.submit(train, run, folder, arguments.epochs)] = run
                ready = (run for run in waiting if run.loss == TWIN or _key(run.twin()) in done)
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                run = running.pop(future)
                line = future.result()
                with (folder / "results.jsonl").open("a", encoding="utf-8") as file:
                    file.write(json.dumps(line) + "\n")
                done.add(_key(run))
                print(f"{total - len(waiting) - len(running)}/{total} {run.name}: PCK {line['pck']}", flush=True)


def _key(run: Run) -> tuple[object, ...]:
    return dataclasses.astuple(run)


if __name__ == "__main__":
    main()
