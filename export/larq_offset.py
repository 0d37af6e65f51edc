"""The Keras rebuild with the channels of its shortcuts moved: the same function, in values that int8 holds better."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bihrnet_edge.calibration.offsets import propagate
from bihrnet_edge.calibration.scales import HIGHEST, Grid, Node, Operation
from bihrnet_edge.errors import UserError
from bihrnet_edge.export.larq_layers import Shift
from bihrnet_edge.export.larq_model import LarqBuilder
from bihrnet_edge.export.weights import WeightStore
from bihrnet_edge.model.config import ModelConfig


class OffsetBuilder(LarqBuilder):
    """Subtracts an offset from the stem's output, and moves thresholds and the head's bias with it.

    Args:
        config, store: as :class:`~bihrnet_edge.export.larq_model.LarqBuilder` takes them.
        nodes: the network's activations, each after its inputs.
        offset: one value a channel of the stem's output; empty: nothing is moved.
        grid: of the stem's output; the offset is then rounded to multiples of its scale.
    """

    def __init__(
        self, config: ModelConfig, store: WeightStore, nodes: Sequence[Node], offset: Sequence[float], grid: Grid | None
    ) -> None:
        super().__init__(config, store)
        self._nodes, self._offset, self._grid = nodes, np.array(offset, np.float64), grid
        self._offsets: dict[str, npt.NDArray[np.float64]] = {}
        self._named: dict[int, tuple[Any, str]] = {}

    def emit(
        self,
        name: str,
        operation: Operation,
        y: Any,
        inputs: Sequence[Any],
        terms: int = 1,
        channels: tuple[int, int] | None = None,
    ) -> Any:
        """Remembers the name of a tensor."""
        self._named[id(y)] = y, name  # with the tensor, whose id would be free otherwise
        return y

    def name_of(self, x: Any) -> str:
        """Of a tensor that was emitted."""
        return self._named[id(x)][1]

    def shift(self, x: Any) -> Any:
        if not self._offset.size:
            return self.emit("shift", "shift", x, [x])
        if self._offset.shape != (x.shape[-1],):
            raise UserError(
                f"the ranges have an offset of {self._offset.size} channels, this network's stem has {x.shape[-1]}; "
                "they belong to another one, calibrate again."
            )
        scale = None
        if self._grid is not None:
            scale = self._grid.scale
            self._offset = np.clip(np.rint(self._offset / scale), -HIGHEST, HIGHEST) * scale
        self._offsets = propagate(self._nodes, self._offset)
        layer = Shift(scale, name="shift")
        y = layer(x)
        layer.set_weights([(-self._offset).astype(np.float32)])
        return self.emit("shift", "shift", y, [x])

    def beta(self, x: Any, name: str) -> npt.NDArray[np.float32]:
        beta, offset = super().beta(x, name), self._offsets.get(self.name_of(x))
        return beta if offset is None else (beta - offset).astype(np.float32)

    def head_bias(self, x: Any, kernel: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        bias, offset = super().head_bias(x, kernel), self._offsets.get(self.name_of(x))
        return bias if offset is None else (bias + kernel[:, :, 0, 0].astype(np.float64) @ offset).astype(np.float32)
