"""What int8 loses by how activations share scales and zero points: the choice of decision 0011.

    python benchmarks/int8_scales.py bihrnet-small-lsp --ranges ranges.json --annotations val.json --images images

One scale a connected group, or one for all activations between the first convolution and the head; zero points of the
shortcuts' range, or 0 everywhere. The metric is measured on the first people of the file, by the delegate.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import patch

from bihrnet_edge.calibration import scales
from bihrnet_edge.calibration.ranges import read_ranges, weights_sha256
from bihrnet_edge.calibration.scales import Node
from bihrnet_edge.calibration.verification import compare_on_people
from bihrnet_edge.data.dataset import load_annotations
from bihrnet_edge.export.larq_int8 import build_int8_model
from bihrnet_edge.export.lce import convert_to_lce
from bihrnet_edge.export.tflite_metadata import embed_metadata
from bihrnet_edge.model.checkpoint import load_checkpoint
from bihrnet_edge.runtimes.registry import open_runner
from bihrnet_edge.runtimes.torch_runtime import TorchRunner

#: Known beforehand, and the heatmaps, which nothing is added to.
_APART = ("images", "stem.0.bn", "stem.0.act", "head")


def one_group(nodes: Sequence[Node]) -> list[list[Node]]:
    """All activations together, but for those at the ends."""
    apart = [[node] for node in nodes if node.name in _APART]
    return [*apart, [node for node in nodes if node.name not in _APART]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--ranges", type=Path, required=True)
    parser.add_argument("--annotations", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--people", type=int, default=250)
    arguments = parser.parse_args()
    checkpoint = load_checkpoint(arguments.model)
    ranges = read_ranges(arguments.ranges)
    ranges.refuse_other_weights(weights_sha256(checkpoint.state), arguments.model)
    dataset = load_annotations(arguments.annotations, arguments.images)
    ranges.refuse_images(person.image_path for person in dataset.people[: arguments.people])
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        runners = {}
        for groups in ("one a group", "one for all"):
            for zero in ("of the range", "0"):
                name = f"{groups:12} {zero:13}"
                with ExitStack() as patches:
                    if groups == "one for all":
                        patches.enter_context(patch.object(scales, "share_groups", one_group))
                    if zero == "0":
                        everything = patch.object(scales, "centered", lambda nodes: {node.name for node in nodes})
                        patches.enter_context(everything)
                    data = convert_to_lce(build_int8_model(checkpoint, ranges.activations))
                path = Path(folder) / f"{len(runners)}.lce.tflite"
                path.write_bytes(embed_metadata(data, checkpoint.metadata))
                runners[name] = stack.enter_context(open_runner(str(path), 1))
        torch = TorchRunner.of(checkpoint.build(), checkpoint.metadata)
        _, _, metrics, drops = compare_on_people(torch, runners, dataset, arguments.people, lambda done, total: None)
    print(f"{'scales':12} {'zero points':13} {'metric':>7}  drop, 95 %")
    for name in runners:
        drop = drops[name].drop
        print(f"{name} {metrics[name]:7.2f}  {drop.value:.2f} ({drop.low:.2f} to {drop.high:.2f})")


if __name__ == "__main__":
    main()
