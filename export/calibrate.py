"""Running the Keras rebuild over calibration images, and observing every activation on the way."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from bihrnet_edge.calibration.histogram import Histogram
from bihrnet_edge.calibration.observers import PERCENTILE, ObserverName, Range, observe
from bihrnet_edge.calibration.scales import Node
from bihrnet_edge.errors import UserError
from bihrnet_edge.runtimes.base import Images

if TYPE_CHECKING:
    from bihrnet_edge.model.checkpoint import Checkpoint

#: Fewer images leave the tails of the distributions to chance.
MIN_IMAGES = 16


def weights_sha256(checkpoint: Checkpoint) -> str:
    """Digest of a checkpoint's weights, which ranges belong to: names, shapes and values."""
    digest = hashlib.sha256()
    for name in sorted(checkpoint.state):
        values = checkpoint.state[name].detach().cpu().numpy()
        digest.update(f"{name}{values.dtype.str}{values.shape}".encode() + np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()


class Activations:
    """A network whose every activation can be looked at.

    Attributes:
        nodes: the activations, each after its inputs.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        from bihrnet_edge.export.larq_int8 import ObservedBuilder
        from bihrnet_edge.export.larq_model import build_larq_model
        from bihrnet_edge.export.tensorflow_env import tf, tf_keras

        builders: list[ObservedBuilder] = []

        def make(*arguments: Any) -> ObservedBuilder:
            builders.append(ObservedBuilder(*arguments))
            return builders[0]

        size = checkpoint.metadata.input_height, checkpoint.metadata.input_width
        model = build_larq_model(checkpoint.config, checkpoint.state, *size, builder=make)
        self.nodes: list[Node] = builders[0].nodes
        self._names = list(builders[0].tensors)
        network = tf_keras.Model(model.inputs, list(builders[0].tensors.values()))
        self._run = tf.function(lambda images: network(images, training=False), autograph=False)
        self._constant = tf.constant

    def of(self, images: Images) -> Iterable[dict[str, Any]]:
        """The activations of one image ``(1, H, W, 3)`` after the other, by name."""
        for index in range(len(images)):
            values = self._run(self._constant(images[index : index + 1]))
            yield {name: value.numpy() for name, value in zip(self._names, values, strict=True)}


def observe_activations(
    activations: Activations,
    batches: Iterable[Images],
    observer: ObserverName,
    *,
    percentile: float = PERCENTILE,
    progress: Callable[[int], None] | None = None,
) -> Mapping[str, Range]:
    """The range of every activation over normalised images.

    Args:
        activations: the network.
        batches: float32 ``(N, H, W, 3)``, together at least :data:`MIN_IMAGES`.
        observer, percentile: as in :func:`~bihrnet_edge.calibration.observers.observe`.
        progress: called with the images done.

    Raises:
        UserError: there are too few images, or an activation is NaN, infinite or always the same.
    """
    histograms = {node.name: Histogram() for node in activations.nodes}
    done = 0
    for images in batches:
        for values in activations.of(images):
            for name, histogram in histograms.items():
                histogram.add(values[name], name)
            done += 1
            if progress is not None:
                progress(done)
    if done < MIN_IMAGES:
        raise UserError(f"{done} calibration images are too few for stable ranges; give {MIN_IMAGES} or more.")
    for name, histogram in histograms.items():
        if histogram.low == histogram.high:
            raise UserError(
                f"the activation {name!r} is {histogram.low:g} everywhere on all {done} calibration images: a "
                "constant has no range; calibrate on other images, or train again."
            )
    return {name: observe(histogram, observer, percentile) for name, histogram in histograms.items()}
