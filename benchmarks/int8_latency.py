"""How much faster an int8 ``.lce.tflite`` is than the float one of the same net, both with the native delegate.

    python benchmarks/int8_latency.py w32.lce.tflite w32.int8.lce.tflite [--rounds 40] [--threads 1]

Both take turns in one run, each in a process of its own: a turn is an inference that is not timed and then the mean of
some that are. The ratio is the median of those within a turn, its spread their 10th and 90th percentile, so that what
else the machine does hits both sides.
"""

from __future__ import annotations

import argparse
import datetime
import tempfile
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from latency import Contender, machine

from bihrnet_edge.console import megabytes, print_table, progress_steps, write_json

_TIMED = 6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("float", type=Path, help="the .lce.tflite in float")
    parser.add_argument("int8", type=Path, help="the same net in int8")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="also write everything to this file")
    arguments = parser.parse_args()
    contenders = [
        Contender(name, path, "litert", threads=arguments.threads, timed=_TIMED)
        for name, path in (("float", arguments.float), ("int8", arguments.int8))
    ]
    with progress_steps() as step, ExitStack() as stack:
        for contender in contenders:
            contender.start(stack, stack.enter_context(tempfile.TemporaryFile("w+")))
        with step("take turns") as advance:
            for number in range(arguments.rounds):
                for contender in contenders if number % 2 == 0 else reversed(contenders):
                    contender.turn(number)
                advance(number + 1, arguments.rounds)
    floats, int8 = (np.array(contender.times) for contender in contenders)
    low, median, high = (float(value) for value in np.percentile(floats / int8, [10, 50, 90]))
    print(f"{datetime.date.today()}, {machine()}; batch 1, {arguments.threads} threads, {arguments.rounds} rounds")
    rows = [
        [contender.name, megabytes(contender.model.stat().st_size), f"{np.median(contender.times):.2f}",
         f"{min(contender.times):.2f}"]
        for contender in contenders
    ]  # fmt: skip
    print_table("taking turns", ["", "size", "p50 ms", "min ms"], rows)
    print(f"int8 is {median:.2f} times as fast ({low:.2f} to {high:.2f})")
    if arguments.json is not None:
        summaries = [contender.summary() for contender in contenders]
        write_json(arguments.json, {"contenders": summaries, "ratio": median, "ratio_10": low, "ratio_90": high})


if __name__ == "__main__":
    main()
