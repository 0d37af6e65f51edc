"""From a picture and person boxes to joints."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bihrnet_edge.pose.crop import Crop, box_to_crop, crop_image, normalise
from bihrnet_edge.pose.flip import average, mirror_images
from bihrnet_edge.pose.heatmaps import Decoding, decode
from bihrnet_edge.pose.metadata import PoseMetadata
from bihrnet_edge.runtimes.base import Heatmaps, Images, Runner

_DEFAULT_BATCH = 8


def crop_inputs(image: NDArray[np.uint8], boxes: ArrayLike, metadata: PoseMetadata) -> tuple[Images, list[Crop]]:
    """The network's input for each box ``(x, y, width, height)``: ``(P, H, W, 3)``, and where it was cut.

    Raises:
        UserError: a box has no area.
        ValueError: the image is not uint8 RGB.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f"the image is {image.dtype} {image.shape}, not uint8 (H, W, 3)")
    height, width = metadata.input_height, metadata.input_width
    crops = [
        box_to_crop(box, width / height, metadata.box_padding) for box in np.asarray(boxes, np.float64).reshape(-1, 4)
    ]
    pixels = np.empty((len(crops), height, width, 3), np.uint8)
    for index, crop in enumerate(crops):
        pixels[index] = crop_image(image, crop, height, width)
    return normalise(pixels, metadata.mean, metadata.std), crops


def run_heatmaps(runner: Runner, images: Images, flip_test: bool = False) -> Heatmaps:
    """Heatmaps ``(N, K, h, w)`` of normalised images ``(N, H, W, 3)``.

    Args:
        runner: the network.
        images: of its size.
        flip_test: average with the heatmaps of the mirrored images, moved by a pixel as HRNet does; takes twice
            the time.

    Raises:
        ValueError: the images are not of the model's size.
    """
    heatmaps = runner.run(images)
    if not flip_test:
        return heatmaps
    return average(heatmaps, runner.run(mirror_images(images)), runner.metadata.keypoints)


def poses(heatmaps: Heatmaps, crops: Sequence[Crop], decoding: Decoding = "quarter") -> NDArray[np.float32]:
    """Heatmaps ``(P, K, h, w)`` of crops to ``(P, K, 3)``: x, y in pixels of the image, and the score.

    Raises:
        UserError: there is no such decoding.
    """
    points, scores = decode(heatmaps, decoding)
    size = heatmaps.shape[2], heatmaps.shape[3]
    located = [crop.to_image(point, size) for crop, point in zip(crops, points, strict=True)]
    result = np.empty((*scores.shape, 3), np.float32)
    result[..., :2] = np.array(located).reshape(points.shape)
    result[..., 2] = scores
    return result


@dataclass(frozen=True, eq=False)
class Estimate:
    """What a network saw of ``P`` people.

    Attributes:
        poses: ``(P, K, 3)``: x, y in pixels of the image, and the heatmap's peak value.
        heatmaps: ``(P, K, h, w)``.
        crops: where in the image each person's heatmaps lie.
        network_ms: time in the network alone, of all people.
    """

    poses: NDArray[np.float32]
    heatmaps: Heatmaps
    crops: tuple[Crop, ...]
    network_ms: float


class PoseEstimator:
    """A runner with everything around it that its metadata describes.

    Example:
        >>> estimator = PoseEstimator(open_runner("bihrnet.tflite"))
        >>> people = estimator.predict(read_image(Path("photo.jpg")), [[0, 0, 640, 480]])

    Args:
        runner: the network.
        flip_test: average with the mirrored picture; a little more accurate in twice the time.
        decoding: ``quarter`` as HRNet's, or ``dark``.
    """

    def __init__(self, runner: Runner, flip_test: bool = False, decoding: Decoding = "quarter") -> None:
        self.runner = runner
        self.flip_test = flip_test
        self.decoding: Decoding = decoding
        self.metadata = runner.metadata

    def predict(self, image: NDArray[np.uint8], boxes: ArrayLike) -> NDArray[np.float32]:
        """Joints of the people in ``boxes``.

        Args:
            image: uint8 RGB ``(H, W, 3)``.
            boxes: ``(P, 4)``, ``(x, y, width, height)`` in pixels of the image.

        Returns:
            float32 ``(P, K, 3)``: x, y in pixels of the image and the heatmap's peak value.

        Raises:
            UserError: a box has no area, or there is no such decoding.
            ValueError: the image is not uint8 RGB.
        """
        return self.estimate(image, boxes).poses

    def estimate(self, image: NDArray[np.uint8], boxes: ArrayLike) -> Estimate:
        """The same with what lies behind it; arguments and errors as in :meth:`predict`."""
        places = np.asarray(boxes, np.float64).reshape(-1, 4)
        found = [np.empty((0, len(self.metadata.keypoints), 3), np.float32)]
        heatmaps: list[Heatmaps] = [np.empty((0, *self.runner.heatmap_shape), np.float32)]
        where: list[Crop] = []
        seconds = 0.0
        for start in range(0, len(places), _DEFAULT_BATCH):
            inputs, crops = crop_inputs(image, places[start : start + _DEFAULT_BATCH], self.metadata)
            started = time.perf_counter()
            heatmaps.append(run_heatmaps(self.runner, inputs, self.flip_test))
            seconds += time.perf_counter() - started
            found.append(poses(heatmaps[-1], crops, self.decoding))
            where += crops
        return Estimate(np.concatenate(found), np.concatenate(heatmaps), tuple(where), 1000 * seconds)
