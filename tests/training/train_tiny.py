"""Run as a program: ``bihrnet-edge train`` with one more preset, ``tiny``, whose steps are quick.

``train_tiny.py RECIPE --out FOLDER ...``; Fabric starts it once more for every other process.
"""

from __future__ import annotations

import sys

from bihrnet_edge.cli import main
from bihrnet_edge.model.config import PRESETS, ModelConfig

if __name__ == "__main__":
    PRESETS["tiny"] = ModelConfig(modules=(1, 1, 1), blocks=1, bottlenecks=1)
    main(["train", *sys.argv[1:]])
