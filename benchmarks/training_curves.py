"""The curve of a training run as a picture: PCK on the validation split after every epoch, phase by phase.

    python benchmarks/training_curves.py docs/logs/bihrnet-small-lsp.jsonl docs/pictures/bihrnet-small-lsp.svg

Reads the ``log.jsonl`` that ``bihrnet-edge train`` leaves; needs the extra ``docs``.
"""

from __future__ import annotations

import argparse
import json
from itertools import groupby
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot

#: PCK@0.2 of LSP-extended's best constant pose (benchmarks/constant_pose.py).
_CONSTANT_POSE = 6.35


def read_log(path: Path) -> list[dict[str, Any]]:
    """The log's lines of epochs, and of the final checkpoint."""
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if line["event"] in ("epoch", "final")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("log", type=Path)
    parser.add_argument("picture", type=Path, help="an .svg file")
    arguments = parser.parse_args()

    # The same log gives the same file.
    pyplot.rcParams.update({"svg.hashsalt": "bihrnet-edge", "svg.fonttype": "none", "font.size": 10})
    figure, axes = pyplot.subplots(figsize=(8, 4), layout="constrained")
    epoch = 0
    top = max(line["val_pck"] for line in read_log(arguments.log))
    for number, (phase, group) in enumerate(groupby(read_log(arguments.log), key=lambda line: line["phase"])):
        lines = list(group)
        values = [line["val_pck"] for line in lines if line["event"] == "epoch"]
        xs = [epoch + i + 1 for i in range(len(values))]
        axes.axvspan(epoch + 0.5, epoch + len(values) + 0.5, color="C0", alpha=0.10 if number % 2 == 0 else 0.03, lw=0)
        axes.text(epoch + 0.6, top * 1.10, phase, rotation=35, ha="left", va="bottom", fontsize=9)
        axes.plot(xs, values, "o-", color="C0" if phase.startswith("twin") else "C1", ms=4)
        epoch += len(values)
        for line in lines:
            if line["event"] == "final":
                axes.plot([epoch], [line["val_pck"]], "*", color="C3", ms=11)
                label = f"final {line['val_pck']:.1f}"
                axes.annotate(label, (epoch, line["val_pck"]), (-8, -20), textcoords="offset points", ha="right")
    axes.axhline(_CONSTANT_POSE, color="grey", lw=1, ls="--")
    axes.text(
        epoch + 0.4, _CONSTANT_POSE - 0.4, "best constant pose", ha="right", va="top", color="dimgrey", fontsize=9
    )
    axes.set(xlabel="epochs", ylabel="PCK@0.2, validation, %", xlim=(0.5, epoch + 0.5), ylim=(0, top * 1.08))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.3)
    arguments.picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(arguments.picture, metadata={"Date": None}, bbox_inches="tight")


if __name__ == "__main__":
    main()
