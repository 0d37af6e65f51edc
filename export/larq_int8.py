"""The Keras rebuild observed and quantised: what computes which tensor, and int8 scales at the calibrated ranges."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bihrnet_edge.calibration.scales import HIGHEST, LOWEST, Grid, Node, Operation, grid_of, share_scales
from bihrnet_edge.errors import UserError
from bihrnet_edge.export.larq_layers import FakeQuant, Threshold
from bihrnet_edge.export.larq_model import LarqBuilder, build_larq_model
from bihrnet_edge.export.larq_offset import OffsetBuilder
from bihrnet_edge.export.tensorflow_env import tf_keras
from bihrnet_edge.export.weights import WeightStore
from bihrnet_edge.model.config import ModelConfig
from bihrnet_edge.pose.metadata import PoseMetadata

if TYPE_CHECKING:
    from bihrnet_edge.model.checkpoint import Checkpoint


def int8_grids(
    config: ModelConfig, metadata: PoseMetadata, nodes: Sequence[Node], ranges: Mapping[str, tuple[float, float]]
) -> dict[str, Grid]:
    """The int8 grid of every activation: by calibrated ranges, but where the values are known beforehand.

    Raises:
        UserError: the ranges are another network's, or an activation was always zero.
    """
    grids = share_scales(nodes, ranges)
    ends = [(pixel / 255 - m) / s for m, s in zip(metadata.mean, metadata.std, strict=True) for pixel in (0, 255)]
    grids["images"] = grid_of(min(ends), max(ends))
    if config.integer_stem:  # integers within an int8 already
        grids["stem.0.bn"] = grids["stem.0.act"] = Grid(1.0)
    return grids


def checkpoint_grids(checkpoint: Checkpoint, ranges: Mapping[str, tuple[float, float]]) -> dict[str, Grid]:
    """:func:`int8_grids` of a checkpoint, whose activations are looked up."""
    return int8_grids(checkpoint.config, checkpoint.metadata, activation_nodes(checkpoint.config), ranges)


def activation_nodes(config: ModelConfig) -> list[Node]:
    """The activations of a network, each after its inputs, as :func:`build_observed_model` finds them."""
    builder = _NodeBuilder(config, WeightStore({}))
    builder.network(_Channels((3,)))
    return builder.nodes


def build_int8_model(
    checkpoint: Checkpoint,
    ranges: Mapping[str, tuple[float, float]],
    kept: Iterable[str] = (),
    offset: Sequence[float] = (),
) -> tf_keras.Model:
    """The rebuild of a checkpoint with activations rounded to int8 at calibrated ranges.

    Args:
        checkpoint: a binary network.
        ranges: of all of its activations.
        kept: names of those that stay in float.
        offset: as in :class:`~bihrnet_edge.calibration.ranges.Ranges`.

    Raises:
        UserError: the ranges are another network's, or an activation was always zero.
    """
    config, metadata = checkpoint.config, checkpoint.metadata
    size = metadata.input_height, metadata.input_width
    grids = checkpoint_grids(checkpoint, ranges)
    if unknown := sorted(set(kept) - set(grids)):
        raise UserError(
            f"{unknown[0]!r}, which is to stay in float, is no activation of this network; calibrate again."
        )
    for name in kept:
        del grids[name]
    builder = partial(QuantizedBuilder, grids=grids, offset=offset)
    return build_larq_model(config, checkpoint.state, *size, builder=builder)


def build_observed_model(checkpoint: Checkpoint) -> tuple[tf_keras.Model, ObservedBuilder]:
    """The rebuild of a checkpoint, and all of its activations."""
    builders: list[ObservedBuilder] = []

    def make(config: ModelConfig, store: WeightStore) -> ObservedBuilder:
        builders.append(ObservedBuilder(config, store))
        return builders[0]

    size = checkpoint.metadata.input_height, checkpoint.metadata.input_width
    return build_larq_model(checkpoint.config, checkpoint.state, *size, builder=make), builders[0]


class ObservedBuilder(LarqBuilder):
    """Keeps every tensor, and what it was computed from."""

    def __init__(self, config: ModelConfig, store: WeightStore) -> None:
        super().__init__(config, store)
        self.tensors: dict[str, Any] = {}
        self.nodes: list[Node] = []
        self._names: dict[int, str] = {}

    def emit(
        self,
        name: str,
        operation: Operation,
        y: Any,
        inputs: Sequence[Any],
        terms: int = 1,
        channels: tuple[int, int] | None = None,
    ) -> Any:
        self.tensors[name] = y
        self.nodes.append(Node(name, operation, tuple(self._names[id(x)] for x in inputs), terms, channels))
        self._names[id(y)] = name
        return y

    def shift(self, x: Any) -> Any:
        """Observed where it is: what an offset changes is known without running the network."""
        return self.emit("shift", "shift", x, [x])


@dataclass(frozen=True, eq=False)
class _Channels:
    """Stands for a tensor, of which it has the channels alone."""

    shape: tuple[int]


class _NodeBuilder(ObservedBuilder):
    """The same names and inputs without making layers, which takes as long as the rebuild itself."""

    def head(self, x: Any) -> Any:
        return self.emit("head", "convolution", _Channels((self.config.keypoints,)), [])

    def round(self, x: Any) -> Any:
        self.unnamed("round")
        return x

    def threshold(self, x: Any, name: str) -> Any:
        return x

    def convolution(self, x: Any, name: str, channels: int, size: int, **options: Any) -> Any:
        return _Channels((channels,))

    def batch_norm(self, x: Any, name: str, operation: Operation) -> Any:
        return self.emit(name, operation, x, [])

    def prelu(self, x: Any, name: str) -> Any:
        return self.emit(name, "prelu", _Channels(x.shape), [x])

    def upsample(self, x: Any, factor: int) -> Any:
        return self.emit(self.unnamed("upsample"), "pick", _Channels(x.shape), [x])

    def average_pool(self, x: Any, side: int) -> Any:
        return self.emit(self.unnamed("average_pool"), "pick", _Channels(x.shape), [x])

    def add(self, a: Any, b: Any) -> Any:
        return self.emit(self.unnamed("add"), "add", _Channels(a.shape), [a, b])

    def mean(self, xs: Iterable[Any]) -> Any:
        total, terms = None, 0
        for terms, x in enumerate(xs, start=1):
            if total is None:
                total = x
                continue
            total = self.emit(self.unnamed("add"), "sum", _Channels(x.shape), [total, x], terms)
        assert total is not None
        return self.emit(self.unnamed("scale"), "mean", _Channels(total.shape), [total])

    def concatenate(self, xs: list[Any]) -> Any:
        channels = sum(x.shape[-1] for x in xs)
        return self.emit(self.unnamed("concatenate"), "pick", _Channels((channels,)), xs)

    def channel_slice(self, x: Any, start: int, stop: int) -> Any:
        return self.emit(self.unnamed("slice"), "pick", _Channels((stop - start,)), [x], channels=(start, stop))


class QuantizedBuilder(OffsetBuilder):
    """Rounds every tensor that has a grid, and thresholds to the grid of what they are compared with."""

    def __init__(
        self, config: ModelConfig, store: WeightStore, grids: Mapping[str, Grid], offset: Sequence[float] = ()
    ) -> None:
        super().__init__(config, store, activation_nodes(config), offset, grids.get("shift"))
        self._grids = grids

    def emit(
        self,
        name: str,
        operation: Operation,
        y: Any,
        inputs: Sequence[Any],
        terms: int = 1,
        channels: tuple[int, int] | None = None,
    ) -> Any:
        grid = self._grids.get(name)
        if grid is not None:
            y = FakeQuant(grid.scale, grid.zero_point, name=f"{name}.int8")(y)
        return super().emit(name, operation, y, inputs, terms, channels)

    def grid_of(self, x: Any) -> Grid | None:
        """Of a tensor that was emitted; None: it is not int8."""
        return self._grids.get(self.name_of(x))

    def round(self, x: Any) -> Any:
        """Nothing, where the tensor is int8 in units of 1 already."""
        if self.grid_of(x) is None:
            return super().round(x)
        self.unnamed("round")  # the names after it stay the same
        return x

    def threshold(self, x: Any, name: str) -> Any:
        grid = self.grid_of(x)
        if grid is None:
            return super().threshold(x, name)
        codes = threshold_codes(self.beta(x, name), grid.scale)
        layer = Threshold(grid.scale, name=name)
        y = layer(x)
        layer.set_weights([(-codes * grid.scale).astype(np.float32)])
        return y


def threshold_codes(
    beta: npt.NDArray[np.floating[Any]], scale: float, ends: tuple[int, int] = (-HIGHEST, -LOWEST)
) -> npt.NDArray[np.float64]:
    """RSign's thresholds as the multiples of an activation's scale that its bytes are compared with.

    q stands for values from q - 1/2 to q + 1/2: the first q above the threshold is half a step up. They saturate at
    ``ends``, unless given those whose negative is an int8.
    """
    codes = np.rint(np.asarray(beta, np.float64) / scale + 0.5)
    clipped: npt.NDArray[np.float64] = np.clip(codes, *ends)
    return clipped
