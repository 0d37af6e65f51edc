"""A process of latency.py that holds one model and runs it when told.

latency_worker.py serve MODEL RUNTIME THREADS: says what it is, then answers every line "A B" on standard input with the
mean milliseconds of B inferences after A that are not timed. latency_worker.py memory MODEL: the peak of an interpreter
with the model over one without, bytes.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from pathlib import Path
from typing import TextIO

import numpy as np

from bihrnet_edge.runtimes.registry import open_runner

_WARMUP = 3


def serve(channel: TextIO, model: str, runtime: str, threads: int) -> None:
    with open_runner(model, threads, runtime) as runner:
        size = runner.metadata.input_height, runner.metadata.input_width
        runner.prepare(np.random.default_rng(0).standard_normal((1, *size, 3)).astype(np.float32))
        runner.invoke()
        print(json.dumps({"runtime": runner.name, "delegate": runner.delegate}), file=channel, flush=True)
        for line in sys.stdin:
            untimed, timed = map(int, line.split())
            for _ in range(untimed):
                runner.invoke()
            start = time.perf_counter()
            for _ in range(timed):
                runner.invoke()
            print(1000 * (time.perf_counter() - start) / timed, file=channel, flush=True)


def memory(channel: TextIO, model: str) -> None:
    from ai_edge_litert.interpreter import Interpreter

    from bihrnet_edge.runtimes import delegate

    def peak() -> int:
        match = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
        assert match is not None
        return 1024 * int(match[1])

    loaded, _ = delegate.load(1)
    Path("/proc/self/clear_refs").write_text("5")  # forgets what importing took for a moment
    idle = peak()
    interpreter = Interpreter(model_path=model, num_threads=1, experimental_delegates=[loaded])
    interpreter.allocate_tensors()
    source = interpreter.get_input_details()[0]
    interpreter.set_tensor(source["index"], np.zeros(source["shape"], source["dtype"]))
    for _ in range(_WARMUP):
        interpreter.invoke()
    interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    print(json.dumps({"idle_bytes": idle, "over_idle_bytes": peak() - idle}), file=channel)


def main() -> None:
    # The runtimes' native parts print to stdout as they like; the answers keep a descriptor of their own.
    with os.fdopen(os.dup(1), "w") as channel:
        os.dup2(2, 1)
        command, model, *rest = sys.argv[1:]
        if command == "serve":
            serve(channel, model, rest[0], int(rest[1]))
        else:
            memory(channel, model)


if __name__ == "__main__":
    main()
