"""How much the heatmaps change when activations are rounded to int8, one at a time or many together.

The network is the Keras rebuild with a switch at every activation. Copies of one image run as one batch, each with
other switches on, so that a sweep costs one batched run for every few activations.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bihrnet_edge.calibration.mixed import Rounded
from bihrnet_edge.calibration.scales import Grid, Node, Operation
from bihrnet_edge.errors import UserError
from bihrnet_edge.export.larq_int8 import int8_grids, threshold_codes
from bihrnet_edge.export.larq_layers import SwitchedQuant, SwitchedThreshold
from bihrnet_edge.export.larq_offset import OffsetBuilder
from bihrnet_edge.export.tensorflow_env import tf, tf_keras
from bihrnet_edge.export.weights import WeightStore
from bihrnet_edge.runtimes.base import Images

if TYPE_CHECKING:
    from bihrnet_edge.model.checkpoint import Checkpoint
    from bihrnet_edge.model.config import ModelConfig

#: Copies of an image that run at once.
_COPIES = 16


class SwitchedNetwork:
    """A network of which any set of activations can be rounded to int8.

    Args:
        checkpoint: a binary network.
        nodes: its activations, each after its inputs.
        ranges: of these, as in :func:`~bihrnet_edge.export.larq_int8.build_int8_model`.
        offset: as in :class:`~bihrnet_edge.calibration.ranges.Ranges`.
        images: to run it on, normalised, float32 ``(N, H, W, 3)``.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        nodes: Sequence[Node],
        ranges: Mapping[str, tuple[float, float]],
        offset: Sequence[float],
        images: Images,
    ) -> None:
        config, metadata = checkpoint.config, checkpoint.metadata
        self._index = {node.name: index for index, node in enumerate(nodes)}
        grids = int8_grids(config, metadata, nodes, ranges)
        store = WeightStore(checkpoint.state)
        source = tf_keras.Input((metadata.input_height, metadata.input_width, 3), name="images")
        switches = tf_keras.Input((len(nodes),), name="switches")
        builder = _SwitchedBuilder(config, store, nodes, offset, grids, switches)
        heatmaps = tf.autograph.experimental.do_not_convert(builder.network)(source)
        store.finish()
        network = tf_keras.Model([source, switches], heatmaps)
        self._run = tf.function(lambda *inputs: network(inputs, training=False), autograph=False)
        self._images = images
        self._plain = [self._heatmaps(image, np.zeros((1, len(nodes)), np.float32)) for image in images]

    def errors(self, sets: Sequence[Rounded], progress: Callable[[int, int], None] | None = None) -> list[float]:
        """The squared difference of the heatmaps to the float network's, relative to these, for each set.

        Args:
            sets: names of the activations that are rounded.
            progress: called with the sets done, over all images, and how many there are.

        Raises:
            UserError: the float network's heatmaps are zero everywhere.
        """
        rows = np.zeros((len(sets), len(self._index)), np.float32)
        for row, names in zip(rows, sets, strict=True):
            row[[self._index[name] for name in names]] = 1.0
        squares, done = np.zeros(len(sets)), 0
        for image, plain in zip(self._images, self._plain, strict=True):
            for start in range(0, len(rows), _COPIES):
                chunk = rows[start : start + _COPIES]
                difference = (self._heatmaps(image, chunk) - plain).astype(np.float64)
                squares[start : start + _COPIES] += np.square(difference).sum(axis=(1, 2, 3))
                done += len(chunk)
                if progress is not None:
                    progress(done, len(rows) * len(self._images))
        total = sum(float(np.square(plain.astype(np.float64)).sum()) for plain in self._plain)
        if not total > 0.0:
            raise UserError("the network's heatmaps are zero on all sweep images; there is nothing to compare.")
        return [float(square) / total for square in squares]

    def _heatmaps(self, image: Any, switches: NDArray[np.float32]) -> NDArray[np.float32]:
        """``(n, h, w, K)`` of n copies of an image. Always the same batch, so that it is traced once."""
        padded = np.zeros((_COPIES, switches.shape[1]), np.float32)
        padded[: len(switches)] = switches
        copies = np.broadcast_to(image, (_COPIES, *image.shape))
        result: NDArray[np.float32] = self._run(tf.constant(copies), tf.constant(padded)).numpy()
        return result[: len(switches)]


class _SwitchedBuilder(OffsetBuilder):
    """Every activation, and every threshold with what it is compared with, rounded where its switch is on."""

    def __init__(
        self,
        config: ModelConfig,
        store: WeightStore,
        nodes: Sequence[Node],
        offset: Sequence[float],
        grids: Mapping[str, Grid],
        switches: Any,
    ) -> None:
        super().__init__(config, store, nodes, offset, grids["shift"])
        self._grids, self._switches = grids, switches
        self._index = {node.name: index for index, node in enumerate(nodes)}

    def emit(
        self,
        name: str,
        operation: Operation,
        y: Any,
        inputs: Sequence[Any],
        terms: int = 1,
        channels: tuple[int, int] | None = None,
    ) -> Any:
        grid = self._grids[name]
        layer = SwitchedQuant(grid.scale, grid.zero_point, self._index[name], name=f"{name}.int8")
        return super().emit(name, operation, layer([y, self._switches]), inputs, terms, channels)

    def threshold(self, x: Any, name: str) -> Any:
        source, beta = self.name_of(x), self.beta(x, name)
        scale = self._grids[source].scale
        layer = SwitchedThreshold(self._index[source], name=name)
        y = layer([x, self._switches])
        layer.set_weights([-beta, (-threshold_codes(beta, scale) * scale).astype(np.float32)])
        return y
