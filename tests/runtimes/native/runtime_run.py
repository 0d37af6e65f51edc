"""Runs models in the LiteRT that is found first, for a process of its own: runtime_run.py FOLDER.

Every NAME.tflite of the folder with its NAME.npz of inputs; writes NAME.out.npz and prints the runtime's version.
"""

from __future__ import annotations

import sys
from pathlib import Path

import ai_edge_litert
import numpy as np
from delegate_runs import run_delegate


def main() -> None:
    for model in sorted(Path(sys.argv[1]).glob("*.tflite")):
        with np.load(model.with_suffix(".npz")) as stored:
            inputs = [stored[name] for name in stored.files]
        for threads in (1, 2):
            outputs = run_delegate(model.read_bytes(), inputs, threads)
        np.savez(model.with_suffix(".out.npz"), *outputs)
    print(ai_edge_litert.__version__)


if __name__ == "__main__":
    main()
