"""The models that the demo page compares: opened once, run on one picture after the other."""

from __future__ import annotations

import base64
import io
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bihrnet_edge.errors import UserError
from bihrnet_edge.pose.crop import Crop, decode_image
from bihrnet_edge.pose.draw import side_color
from bihrnet_edge.runtimes.base import Runner
from bihrnet_edge.runtimes.estimator import PoseEstimator
from bihrnet_edge.runtimes.people import Box, describe_people, whole_picture
from bihrnet_edge.runtimes.registry import open_runner

#: Pillow's names of what a browser shows too; fewer decoders read what a stranger sends.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
#: 150 MB of RGB; phones' largest photographs are near it.
MAX_PIXELS = 50_000_000
#: Untimed inferences of a model that has just been opened; the first ones are slow.
_WARM_UP = 2


class DemoModels:
    """Opens the models; use it in a ``with`` block, which closes them.

    Args:
        models: what :func:`~bihrnet_edge.runtimes.registry.open_runner` takes.
        threads: of one inference.
        runtime: of those models that it runs; chosen from the file unless given.

    Raises:
        UserError: a model cannot be opened.
    """

    def __init__(self, models: Sequence[str], threads: int = 1, runtime: str | None = None) -> None:
        self._paths = tuple(models)
        self._runners: list[Runner] = []
        # One inference at a time: no runtime may be called twice at once, and latencies would mean nothing.
        self._lock = threading.Lock()
        try:
            for model in models:
                self._runners.append(open_runner(model, threads, runtime))
                self._warm_up(self._runners[-1])
        except BaseException:
            self.close()
            raise

    @staticmethod
    def _warm_up(runner: Runner) -> None:
        metadata = runner.metadata
        image = np.zeros((metadata.input_height, metadata.input_width, 3), np.uint8)
        for _ in range(_WARM_UP):
            PoseEstimator(runner).predict(image, [whole_picture(image, metadata)])

    def describe(self) -> list[dict[str, Any]]:
        """JSON-serialisable: name, file, runtime, input size, joints and limbs with the colours to draw them in.

        The file is its name alone where that tells the models apart.
        """
        names = [Path(path).name for path in self._paths]
        files = names if len(set(names)) == len(names) else self._paths
        described = []
        for file, runner in zip(files, self._runners, strict=True):
            metadata, keypoints = runner.metadata, runner.metadata.keypoints
            joints = keypoints.keypoints
            described.append(
                {
                    "name": metadata.name,
                    "file": file,
                    "runtime": runner.label,
                    "input": [metadata.input_width, metadata.input_height],
                    "joints": [{"name": name, "color": _css(side_color(name))} for name in joints],
                    "limbs": [
                        {"from": a, "to": b, "color": _css(side_color(joints[a], joints[b]))}
                        for a, b in keypoints.skeleton
                    ],
                }
            )
        return described

    def predict(self, data: bytes, box: Box | None = None) -> dict[str, Any]:
        """All models on one picture, JSON-serialisable.

        Args:
            data: an image file; turned upright by its EXIF orientation, as ``predict`` does.
            box: the person; the whole picture unless given.

        Returns:
            ``width`` and ``height`` of the picture, and ``results``, one a model: ``person`` as
            :func:`~bihrnet_edge.runtimes.people.describe_people` has it, ``heatmaps``, ``network_ms`` and
            ``total_ms``, which counts crop and decoding too.

        Raises:
            UserError: the bytes are no picture of :data:`FORMATS`, or it is too large.
        """
        with self._lock:  # around the decoding too: pixels of one picture at a time
            if not self._runners:
                raise UserError("the demo is closing; start it again.")
            image = decode_image(io.BytesIO(data), "the picture", upright=True, formats=FORMATS, max_pixels=MAX_PIXELS)
            results = [self._result(runner, image, box) for runner in self._runners]
        return {"width": image.shape[1], "height": image.shape[0], "results": results}

    @staticmethod
    def _result(runner: Runner, image: NDArray[np.uint8], box: Box | None) -> dict[str, Any]:
        used = [box or whole_picture(image, runner.metadata)]
        started = time.perf_counter()
        estimate = PoseEstimator(runner).estimate(image, used)
        total_ms = 1000 * (time.perf_counter() - started)
        (person,) = describe_people(used, estimate.poses, runner.metadata.keypoints)
        return {
            "person": person,
            "network_ms": estimate.network_ms,
            "total_ms": total_ms,
            "heatmaps": _pack_heatmaps(estimate.heatmaps[0], estimate.crops[0]),
        }

    def close(self) -> None:
        """Close the models; waits for an inference that is under way."""
        with self._lock:
            for runner in self._runners:
                runner.close()
            self._runners.clear()

    def __enter__(self) -> DemoModels:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _css(color: tuple[int, int, int]) -> str:
    return "#" + "".join(f"{part:02x}" for part in color)


def _pack_heatmaps(heatmaps: NDArray[np.float32], crop: Crop) -> dict[str, Any]:
    """``(K, h, w)`` as bytes, 255 being the highest value of all; below 0 is 0.

    ``region`` is what they cover of the picture, x, y, width, height, in coordinates that run from 0 to its width: half
    a pixel more than those of keypoints, which are pixels' centres.
    """
    finite = np.nan_to_num(heatmaps, nan=0.0, posinf=0.0, neginf=0.0).clip(min=0.0)
    peak = float(finite.max())
    scaled = np.rint(finite * (255 / peak)) if peak > 0 else finite
    joints, height, width = heatmaps.shape
    left, top = crop.to_image([-0.5, -0.5], (height, width)) + 0.5
    return {
        "joints": joints,
        "width": width,
        "height": height,
        "peak": peak,
        "region": [float(left), float(top), crop.width, crop.height],
        "bytes": base64.b64encode(scaled.astype(np.uint8).tobytes()).decode(),
    }
