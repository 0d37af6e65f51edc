"""What int8 loses by how activations get their scales: the choices of decision 0011, each taken back alone.

    python benchmarks/int8_scales.py bihrnet-small-lsp --annotations val.json --images images \
        --calibration train.json --people 250

Ranges are of people drawn from the calibration annotations as `calibrate --size` does. The metric is measured on the
first people of the other file, by the delegate; drops are paired, against torch. The last row is torch itself with its
heatmaps rounded to bytes.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import ModuleType
from unittest.mock import patch

import numpy as np

from bihrnet_edge.calibration import scales
from bihrnet_edge.calibration.histogram import Histogram
from bihrnet_edge.calibration.observer_names import DEFAULT_OBSERVER, PERCENTILE, ObserverName
from bihrnet_edge.calibration.observers import Range, observe
from bihrnet_edge.calibration.offsets import Float64
from bihrnet_edge.calibration.ranges import Ranges
from bihrnet_edge.calibration.scales import Grid, Node
from bihrnet_edge.calibration.subset import choose_subset, subset_of
from bihrnet_edge.calibration.verification import compare_on_people
from bihrnet_edge.console import progress_steps
from bihrnet_edge.data.dataset import load_annotations
from bihrnet_edge.export import calibrate as calibrating
from bihrnet_edge.export.larq_int8 import build_int8_model
from bihrnet_edge.export.lce import convert_to_lce
from bihrnet_edge.export.tflite_metadata import embed_metadata
from bihrnet_edge.model.checkpoint import load_checkpoint
from bihrnet_edge.runtimes.base import Heatmaps, Images, Runner
from bihrnet_edge.runtimes.registry import open_runner
from bihrnet_edge.runtimes.torch_runtime import TorchRunner

#: Known beforehand, and the heatmaps, which nothing is added to.
_APART = ("images", "stem.0.bn", "stem.0.act", "head")


def one_group(nodes: Sequence[Node]) -> list[list[Node]]:
    """All activations together, but for those at the ends."""
    apart = [[node] for node in nodes if node.name in _APART]
    return [*apart, [node for node in nodes if node.name not in _APART]]


_share_groups, _centered = scales.share_groups, scales.centered


def everything(nodes: Iterable[Node]) -> set[str]:
    """All activations, as if they lay around zero."""
    return {node.name for node in nodes}


def sums_joined(nodes: Sequence[Node]) -> list[list[Node]]:
    """The groups where the sum of two shortcuts keeps their scale."""
    with patch.object(scales, "centered", everything):
        return _share_groups(nodes)


def groups(nodes: Sequence[Node]) -> list[list[Node]]:
    """The groups as exported, whatever else is patched."""
    with patch.object(scales, "centered", _centered):
        return _share_groups(nodes)


class RoundedHeatmaps(Runner):
    """A runner whose heatmaps are rounded to a grid."""

    def __init__(self, inner: Runner, grid: Grid) -> None:
        self.name, self.metadata, self.batch = inner.name, inner.metadata, inner.batch
        self._inner, self._grid = inner, grid

    def prepare(self, images: Images) -> None:
        self._inner.prepare(images)

    def invoke(self) -> None:
        self._inner.invoke()

    def heatmaps(self) -> Heatmaps:
        values = np.clip(self._inner.heatmaps(), self._grid.low, self._grid.high)
        rounded: Heatmaps = (np.rint(values / self._grid.scale) * self._grid.scale).astype(np.float32)
        return rounded


def clipped(histogram: Histogram, observer: ObserverName, percentile: float = PERCENTILE) -> Range:
    """The default observer's range, of the heatmaps as well."""
    return observe(histogram, DEFAULT_OBSERVER, PERCENTILE)


def no_offset(nodes: Sequence[Node], means: Mapping[str, Float64]) -> Float64:
    return np.zeros(len(means["shift"]))


#: The observer, what is patched while ranges are found, and what while they become scales.
_Functions = dict[str, Callable[..., object]]
_VARIANTS: dict[str, tuple[ObserverName, _Functions, _Functions]] = {
    "as exported": (DEFAULT_OBSERVER, {}, {}),
    "heatmaps clipped, too": (DEFAULT_OBSERVER, {"observe": clipped}, {}),
    "all values": ("minmax", {}, {}),
    "zero points 0": (DEFAULT_OBSERVER, {}, {"centered": everything, "share_groups": groups}),
    "sums keep the scale": (DEFAULT_OBSERVER, {}, {"share_groups": sums_joined}),
    "no offset": (DEFAULT_OBSERVER, {"best_offset": no_offset}, {}),
    "neither of these": (DEFAULT_OBSERVER, {"best_offset": no_offset}, {"share_groups": sums_joined}),
    "one scale for all": (DEFAULT_OBSERVER, {}, {"share_groups": one_group}),
}


@contextmanager
def _patched(module: ModuleType, functions: _Functions) -> Iterator[None]:
    with ExitStack() as stack:
        for name, function in functions.items():
            stack.enter_context(patch.object(module, name, function))
        yield


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--annotations", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--calibration", type=Path, required=True, help="annotations of people in the same images")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--people", type=int, default=250)
    arguments = parser.parse_args()
    checkpoint = load_checkpoint(arguments.model)
    dataset = load_annotations(arguments.annotations, arguments.images)
    source = load_annotations(arguments.calibration, arguments.images)
    manifest = choose_subset(source, arguments.calibration, arguments.images, arguments.size, 0)
    chosen = subset_of(source, manifest, arguments.calibration)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        found: dict[tuple[str, tuple[str, ...]], Ranges] = {}
        runners: dict[str, Runner] = {}
        for name, (observer, finding, scaling) in _VARIANTS.items():
            key = observer, tuple(finding)
            if key not in found:
                with _patched(calibrating, finding), progress_steps() as step:
                    found[key] = calibrating.calibrate(checkpoint, chosen, manifest, observer, step=step)
                found[key].refuse_images(person.image_path for person in dataset.people[: arguments.people])
            ranges = found[key]
            with _patched(scales, scaling):
                data = convert_to_lce(build_int8_model(checkpoint, ranges.activations, offset=ranges.offset))
            path = Path(folder) / f"{len(runners)}.lce.tflite"
            path.write_bytes(embed_metadata(data, checkpoint.metadata))
            runners[name] = stack.enter_context(open_runner(str(path), 1))
        torch = TorchRunner.of(checkpoint.build(), checkpoint.metadata)
        heatmaps = found[DEFAULT_OBSERVER, ()].activations["head"]
        runners["torch, rounded"] = RoundedHeatmaps(torch, scales.grid_of(*heatmaps))
        _, _, metrics, drops = compare_on_people(torch, runners, dataset, arguments.people, lambda done, total: None)
    print(f"{'scales':21} {'metric':>7}  drop, 95 %")
    for name in runners:
        drop = drops[name].drop
        print(f"{name:21} {metrics[name]:7.2f}  {drop.value:.2f} ({drop.low:.2f} to {drop.high:.2f})")


if __name__ == "__main__":
    main()
