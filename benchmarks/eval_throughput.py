"""Throughput of ``eval`` beside that of the network alone, in turns: what reading, cropping, decoding and scoring cost.

    python benchmarks/eval_throughput.py out/bihrnet-small-lsp.lce.tflite --annotations val.json --images images

The network alone runs on inputs that lie in memory. What makes the machine slow hits both alike, as they take turns;
the ratio of a round is of one and the same minute.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from bihrnet_edge.data.dataset import load_annotations
from bihrnet_edge.runtimes.crops import cut_batch, reading_order
from bihrnet_edge.runtimes.evaluate import evaluate
from bihrnet_edge.runtimes.registry import open_runner

_BATCH = 8
_INPUTS = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--annotations", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--limit", type=int, default=None)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()

    dataset = load_annotations(arguments.annotations, arguments.images)
    people = dataset.people[: arguments.limit]
    ratios = []
    with open_runner(arguments.model, arguments.threads) as runner:
        print(f"{arguments.model}, {runner.label}, {len(people)} people, {arguments.workers} workers")
        _, inputs, _ = cut_batch(people, reading_order(people)[:_INPUTS], runner.metadata)
        runner.run(inputs)
        for turn in range(arguments.rounds):
            started = time.perf_counter()
            for start in range(0, len(people), _BATCH):
                place = start % (len(inputs) - _BATCH + 1) if len(inputs) > _BATCH else 0
                runner.run(inputs[place : place + min(_BATCH, len(people) - start)])
            bare = len(people) / (time.perf_counter() - started)
            result = evaluate(runner, dataset, arguments.limit, _BATCH, workers=arguments.workers)
            whole = len(people) / result.seconds
            ratios.append(whole / bare)
            print(f"round {turn + 1}: network alone {bare:.1f}/s, eval {whole:.1f}/s, {ratios[-1]:.1%}", flush=True)
    print(f"eval runs at {np.median(ratios):.1%} of the network alone (median; {min(ratios):.1%} to {max(ratios):.1%})")


if __name__ == "__main__":
    main()
