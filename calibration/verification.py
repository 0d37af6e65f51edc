"""Run a reference and other builds of the same network on the same images, and compare."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bihrnet_edge.calibration.agreement import Agreement
from bihrnet_edge.calibration.bootstrap import RESAMPLES, PairedDrop, paired_bootstrap
from bihrnet_edge.data.dataset import PoseDataset
from bihrnet_edge.data.person import Person
from bihrnet_edge.errors import UserError
from bihrnet_edge.metrics.pck import PoseMetric, metric_for
from bihrnet_edge.pose.crop import normalise
from bihrnet_edge.pose.matching import common_joints
from bihrnet_edge.pose.metadata import PoseMetadata
from bihrnet_edge.runtimes.base import Images, Runner
from bihrnet_edge.runtimes.crops import person_batches
from bihrnet_edge.runtimes.estimator import poses

_BATCH = 8
#: Mean and standard deviation of the synthetic pictures' pixels; photographs have about these.
_GREY, _CONTRAST = 128.0, 56.0


def synthetic_images(metadata: PoseMetadata, count: int, seed: int = 0) -> Images:
    """Smooth random 8-bit pictures, normalised for the network, ``(count, H, W, 3)``: for a check without data.

    Noise at every scale with the 1/f spectrum of natural images (Field 1987); white noise would put every
    threshold in the middle of its input.
    """
    rng = np.random.default_rng(seed)
    height, width = metadata.input_height, metadata.input_width
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :])
    frequency[0, 0] = 1.0 / max(height, width)
    noise = np.fft.rfft2(rng.standard_normal((count, 3, height, width))) / frequency
    pictures = np.fft.irfft2(noise, s=(height, width)).transpose(0, 2, 3, 1)
    pictures -= pictures.mean(axis=(1, 2), keepdims=True)
    pictures /= pictures.std(axis=(1, 2), keepdims=True)
    pixels = np.clip(np.rint(_GREY + _CONTRAST * pictures), 0, 255).astype(np.uint8)
    return normalise(pixels, metadata.mean, metadata.std)


def compare_on_images(reference: Runner, candidates: Mapping[str, Runner], images: Images) -> dict[str, Agreement]:
    """Agreement of each candidate's heatmaps with the reference's."""
    agreements = {name: Agreement(reference.metadata.heatmap_stride) for name in candidates}
    for start in range(0, len(images), _BATCH):
        batch = images[start : start + _BATCH]
        expected = reference.run(batch)
        for name, runner in candidates.items():
            agreements[name].add(expected, runner.run(batch))
    return agreements


def paired_drop(
    reference: NDArray[np.floating[Any]],
    artifact: NDArray[np.floating[Any]],
    people: Sequence[Person],
    metric: PoseMetric,
    joints: NDArray[np.intp],
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> PairedDrop:
    """What an artifact loses of a metric, with its interval over images.

    Args:
        reference, artifact: predictions ``(P, C, 2)`` in image pixels.
        people: the truth, with all of the data set's joints.
        metric: the data set's.
        joints: ``(C,)``, which of its joints were predicted.
        resamples, seed: as in :func:`~bihrnet_edge.calibration.bootstrap.paired_bootstrap`.

    Raises:
        UserError: nothing is labelled that counts for the metric.
    """
    (one, counted), (other, _) = (metric.correct(points, people, joints) for points in (reference, artifact))
    scored = metric.scored(joints)
    if not counted[:, scored].any():
        raise UserError(
            f"no labelled joint of the {len(people)} people counts for {metric.name}; give more people or another set."
        )
    images = np.array([person.image_id for person in people])
    return paired_bootstrap(one, other, counted, images, scored=scored, resamples=resamples, seed=seed)


def compare_on_people(
    reference: Runner,
    candidates: Mapping[str, Runner],
    dataset: PoseDataset,
    limit: int | None,
    progress: Callable[[int, int], None],
) -> tuple[dict[str, Agreement], float, dict[str, float], dict[str, PairedDrop]]:
    """The same on annotated people, with everyone's accuracy on the joints that the data set names as well.

    Returns:
        Agreements, the reference's metric and the candidates' metrics (per cent), and what the candidates lose.

    Raises:
        UserError: an image cannot be read, or nothing is labelled that counts for the metric.
    """
    people = dataset.people[:limit]
    joints = common_joints(reference.metadata.keypoints, dataset.keypoints)
    agreements = {name: Agreement(reference.metadata.heatmap_stride) for name in candidates}
    shape = (len(people), len(joints), 2)
    located: NDArray[np.float32] = np.empty(shape, np.float32)
    others = {name: np.empty(shape, np.float32) for name in candidates}
    done = 0
    for chosen, images, crops in person_batches(people, reference.metadata, _BATCH):
        expected = reference.run(images)
        located[chosen] = poses(expected, crops)[:, joints.model_index, :2]
        for name, runner in candidates.items():
            heatmaps = runner.run(images)
            agreements[name].add(expected, heatmaps)
            others[name][chosen] = poses(heatmaps, crops)[:, joints.model_index, :2]
        done += len(chosen)
        progress(done, len(people))
    metric = metric_for(dataset.keypoints)
    values = {
        name: metric(points, people, joints.dataset_index).mean for name, points in (("", located), *others.items())
    }
    drops = {
        name: paired_drop(located, points, people, metric, joints.dataset_index) for name, points in others.items()
    }
    return agreements, values.pop(""), values, drops
