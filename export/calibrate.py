"""Running the Keras rebuild over calibration images, and observing every activation on the way."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bihrnet_edge.calibration.histogram import Histogram
from bihrnet_edge.calibration.manifest import SubsetManifest
from bihrnet_edge.calibration.mixed import DEFAULT_SHARE, Sensitivity, choose_float
from bihrnet_edge.calibration.observer_names import PERCENTILE, ObserverName
from bihrnet_edge.calibration.observers import Range, observe
from bihrnet_edge.calibration.offsets import best_offset, propagate
from bihrnet_edge.calibration.ranges import Ranges, weights_sha256
from bihrnet_edge.calibration.scales import Node
from bihrnet_edge.console import Advance, Step
from bihrnet_edge.data.dataset import PoseDataset
from bihrnet_edge.errors import UserError
from bihrnet_edge.runtimes.base import Images
from bihrnet_edge.runtimes.crops import person_batches

if TYPE_CHECKING:
    import torch

    from bihrnet_edge.model.checkpoint import Checkpoint

#: Fewer images leave the tails of the distributions to chance.
MIN_IMAGES = 16
_BATCH = 8
#: BatchNorm's statistics are averages over batches of at least so many.
_STATISTICS_BATCH = 16


class Activations:
    """A network whose every activation can be looked at.

    Attributes:
        nodes: the activations, each after its inputs.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        from bihrnet_edge.export.larq_int8 import build_observed_model
        from bihrnet_edge.export.tensorflow_env import tf, tf_keras

        model, observed = build_observed_model(checkpoint)
        self.nodes: list[Node] = observed.nodes
        self._names = list(observed.tensors)
        network = tf_keras.Model(model.inputs, list(observed.tensors.values()))
        self._run = tf.function(lambda images: network(images, training=False), autograph=False)
        self._constant = tf.constant

    def of(self, images: Images) -> Iterable[dict[str, Any]]:
        """The activations of one image ``(1, H, W, 3)`` after the other, by name."""
        for index in range(len(images)):
            values = self._run(self._constant(images[index : index + 1]))
            yield {name: value.numpy() for name, value in zip(self._names, values, strict=True)}


def calibrate(
    checkpoint: Checkpoint,
    dataset: PoseDataset,
    manifest: SubsetManifest,
    observer: ObserverName,
    *,
    percentile: float = PERCENTILE,
    sweep: int = 0,
    share: float = DEFAULT_SHARE,
    step: Step,
) -> Ranges:
    """Ranges of a checkpoint's activations over a calibration set.

    Args:
        checkpoint: a binary network.
        dataset: the people that the manifest names, see :func:`~bihrnet_edge.calibration.subset.subset_of`.
        manifest: of the calibration set.
        observer, percentile: as in :func:`~bihrnet_edge.calibration.observers.observe`.
        sweep: on so many of the images it is measured what rounding each activation alone does; 0 leaves that out.
        share: as in :func:`~bihrnet_edge.calibration.mixed.choose_float`.
        step: shows progress.

    Raises:
        UserError: there are too few images, one cannot be read, or an activation is NaN, infinite or constant.
    """
    _refuse_few(dataset)
    with step("rebuild in Larq"):
        activations = Activations(checkpoint)

    def batches() -> Iterator[Images]:
        return (images for _, images, _ in person_batches(dataset.people, checkpoint.metadata, _BATCH))

    with step("find the channels' means") as advance:
        means = channel_means(activations, batches(), lambda done: advance(done, len(dataset)))
    # Few digits, for a file that can be read; int8 rounds it further.
    offset = tuple(round(float(value), 4) for value in best_offset(activations.nodes, means))
    with step(f"calibrate with {observer}") as advance:
        ranges = observe_activations(
            activations,
            batches(),
            observer,
            percentile=percentile,
            offset=offset,
            progress=lambda done: advance(done, len(dataset)),
        )
    sensitivity = None
    if sweep:
        count = min(sweep, len(dataset))
        people = [dataset.people[index * len(dataset) // count] for index in range(count)]
        images = np.concatenate([images for _, images, _ in person_batches(people, checkpoint.metadata, _BATCH)])
        sensitivity = find_sensitivity(checkpoint, activations.nodes, ranges, offset, images, share, step)
    return Ranges(
        checkpoint.metadata.name,
        weights_sha256(checkpoint.state),
        observer,
        len(dataset),
        manifest.annotations,
        manifest.annotations_sha256,
        tuple(sorted({person.image_sha256 for person in manifest.people})),
        ranges,
        offset,
        sensitivity,
    )


def reestimate(checkpoint: Checkpoint, dataset: PoseDataset, *, step: Step) -> tuple[Checkpoint, int]:
    """A checkpoint whose BatchNorm statistics are those of calibration images.

    Args:
        checkpoint: binary or real-valued, not in its exact form.
        dataset: as :func:`calibrate` takes it.
        step: shows progress.

    Returns:
        The checkpoint, and how many channels were constant on the images and keep their statistics.

    Raises:
        UserError: BatchNorm is folded away, there are too few images, or one cannot be read.
    """
    import torch

    from bihrnet_edge.model.statistics import reestimate_batchnorm

    refuse_exact(checkpoint)
    _refuse_few(dataset)
    network = copy.deepcopy(checkpoint.build())  # which shares the checkpoint's tensors
    batch = statistics_batch(len(dataset))

    def batches(advance: Advance) -> Iterator[torch.Tensor]:
        done = 0
        for chosen, images, _ in person_batches(dataset.people, checkpoint.metadata, batch):
            yield torch.from_numpy(images).permute(0, 3, 1, 2)
            advance(done := done + len(chosen), len(dataset))

    with step("re-estimate BatchNorm") as advance:
        constant = reestimate_batchnorm(network, batches(advance))
    state = {name: tensor for name, tensor in network.state_dict().items() if name in checkpoint.state}
    return dataclasses.replace(checkpoint, state=state), constant


def refuse_exact(checkpoint: Checkpoint) -> None:
    """A :class:`UserError` where a checkpoint has no BatchNorm left to re-estimate."""
    if checkpoint.config.integer_stem:
        raise UserError(
            f"checkpoint {checkpoint.metadata.name} is in its exact form, where BatchNorm is folded into the kernels; "
            "re-estimate the one that it was made from, e.g. what the training phase before it left."
        )


def statistics_batch(images: int) -> int:
    """How many of ``images``, 16 or more, make a batch: all are of about one size, as each counts as much as any other.

    None is of a single image, which may have no variance.
    """
    batch = -(-images // (images // _STATISTICS_BATCH))
    while images % batch == 1:
        batch += 1
    return batch


def _refuse_few(dataset: PoseDataset) -> None:
    if len(dataset) < MIN_IMAGES:
        raise UserError(f"{len(dataset)} calibration people are too few for stable ranges; give {MIN_IMAGES} or more.")


def find_sensitivity(
    checkpoint: Checkpoint,
    nodes: Sequence[Node],
    ranges: Mapping[str, Range],
    offset: Sequence[float],
    images: Images,
    share: float,
    step: Step,
) -> Sensitivity:
    """What rounding each activation does to the heatmaps, and which ones ``mixed`` keeps in float.

    Args:
        checkpoint: a binary network.
        nodes: its activations, each after its inputs.
        ranges, offset: as in :class:`~bihrnet_edge.calibration.ranges.Ranges`.
        images: to sweep on, normalised, float32 ``(N, H, W, 3)``, at least one.
        share: as in :func:`~bihrnet_edge.calibration.mixed.choose_float`.
        step: shows progress.

    Raises:
        UserError: an activation was always zero, or the heatmaps are.
    """
    from bihrnet_edge.export.sensitivity import SwitchedNetwork

    with step("rebuild with switches"):
        network = SwitchedNetwork(checkpoint, nodes, ranges, offset, images)
    names = [node.name for node in nodes]
    with step(f"round one of {len(names)} activations at a time") as advance:
        alone = dict(zip(names, network.errors([frozenset({name}) for name in names], advance), strict=True))
    with step("choose what stays in float for mixed"):
        kept, int8, mixed = choose_float(nodes, alone, lambda rounded: network.errors([rounded])[0], share)
    return Sensitivity(len(images), int8, mixed, alone, tuple(sorted(kept)))


def channel_means(
    activations: Activations, batches: Iterable[Images], progress: Callable[[int], None] | None = None
) -> dict[str, NDArray[np.float64]]:
    """The mean of every channel of the activations that an offset of the stem's output reaches, by name.

    Args:
        activations: the network.
        batches: float32 ``(N, H, W, 3)``, at least one.
        progress: called with the images done.
    """
    reached = propagate(activations.nodes, np.zeros(0))
    sums: dict[str, NDArray[np.float64]] = {}
    done = 0
    for images in batches:
        for values in activations.of(images):
            for name in reached:
                mean = values[name].mean(axis=(0, 1, 2), dtype=np.float64)
                sums[name] = sums[name] + mean if name in sums else mean
            done += 1
            if progress is not None:
                progress(done)
    return {name: total / done for name, total in sums.items()}


def observe_activations(
    activations: Activations,
    batches: Iterable[Images],
    observer: ObserverName,
    *,
    percentile: float = PERCENTILE,
    offset: Sequence[float] = (),
    progress: Callable[[int], None] | None = None,
) -> Mapping[str, Range]:
    """The range of every activation over normalised images.

    That of the heatmaps, which are the last, is all of their values, whatever the observer: where a peak saturates,
    nothing is left of where it is.

    Args:
        activations: the network.
        batches: float32 ``(N, H, W, 3)``, at least one.
        observer, percentile: as in :func:`~bihrnet_edge.calibration.observers.observe`.
        offset: as in :class:`~bihrnet_edge.calibration.ranges.Ranges`.
        progress: called with the images done.

    Raises:
        UserError: an activation is NaN, infinite or always the same.
    """
    histograms = {node.name: Histogram() for node in activations.nodes}
    offsets = propagate(activations.nodes, np.array(offset, np.float64)) if offset else {}
    moved = {name: values.astype(np.float32) for name, values in offsets.items()}
    done = 0
    for images in batches:
        for values in activations.of(images):
            for name, histogram in histograms.items():
                histogram.add(values[name] - moved[name] if name in moved else values[name], name)
            done += 1
            if progress is not None:
                progress(done)
    for name, histogram in histograms.items():
        if histogram.low == histogram.high:
            raise UserError(
                f"the activation {name!r} is {histogram.low:g} everywhere on all {done} calibration images: a "
                "constant has no range; calibrate on other images, or train again."
            )
    heatmaps = activations.nodes[-1].name
    return {
        name: observe(histogram, "minmax" if name == heatmaps else observer, percentile)
        for name, histogram in histograms.items()
    }
