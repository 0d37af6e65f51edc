"""What a video costs: each stage alone, predict's stages at once against one after the other, and OpenCV beside PyAV.

The person is from scikit-image. OpenCV is no dependency: pip install opencv-python-headless into an environment of its
own, and run this there.

example: python benchmarks/video.py bihrnet-w32.lce.tflite
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bihrnet_edge.console import print_table
from bihrnet_edge.pose.draw import draw_poses
from bihrnet_edge.runtimes.estimator import PoseEstimator
from bihrnet_edge.runtimes.people import whole_picture
from bihrnet_edge.runtimes.registry import open_runner
from bihrnet_edge.runtimes.video.capture import Frame, open_video
from bihrnet_edge.runtimes.video.predict import VideoFiles, predict_frames
from bihrnet_edge.runtimes.video.writer import VideoWriter

Picture = NDArray[np.uint8]


def pictures(count: int, height: int, width: int) -> list[Picture]:
    """A camera that moves over a photograph, with the noise that cameras have."""
    from skimage.data import astronaut
    from skimage.transform import resize

    whole = np.rint(255 * resize(astronaut(), (height + 64, width + 64))).astype(np.uint8)
    rng = np.random.default_rng(0)
    found = []
    for index in range(count):
        y, x = int(32 + 31 * np.cos(index / 17)), int(32 + 31 * np.sin(index / 20))
        seen = whole[y : y + height, x : x + width].astype(np.int16) + rng.integers(-3, 4, (height, width, 1))
        found.append(seen.clip(0, 255).astype(np.uint8))
    return found


def write(path: Path, frames: list[Picture]) -> None:
    """30 frames a second, as predict writes them."""
    writer = VideoWriter(path, (frames[0].shape[0], frames[0].shape[1]), Fraction(1, 30), Fraction(30))
    for index, frame in enumerate(frames):
        writer.write(frame, Fraction(index, 30))
    writer.finish()


def cv_read(cv2: Any, path: Path) -> list[Picture]:
    capture = cv2.VideoCapture(str(path))
    found = []
    while True:
        good, frame = capture.read()
        if not good:
            return found
        found.append(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))


def cv_write(cv2: Any, path: Path, frames: list[Picture]) -> None:
    height, width = frames[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 30.0, (width, height))
    for frame in frames:
        writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    writer.release()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--frames", type=int, default=90)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--size", default="640x480", help="width x height")
    arguments = parser.parse_args()
    width, height = (int(part) for part in arguments.size.split("x"))
    frames = pictures(arguments.frames, height, width)
    has_cv = importlib.util.find_spec("cv2") is not None
    times: dict[str, list[tuple[float, float]]] = {}

    def timed(name: str, what: Callable[[], object]) -> None:
        wall, processor = time.perf_counter(), time.process_time()
        what()
        spent = time.perf_counter() - wall, time.process_time() - processor
        times.setdefault(name, []).append((1000 * spent[0] / arguments.frames, 1000 * spent[1] / arguments.frames))

    with tempfile.TemporaryDirectory() as folder, open_runner(arguments.model, arguments.threads) as runner:
        clip, drawn = Path(folder, "clip.mp4"), Path(folder, "drawn.mp4")
        write(clip, frames)
        estimator, keypoints = PoseEstimator(runner), runner.metadata.keypoints
        box = [whole_picture(frames[0], runner.metadata)]
        poses = [estimator.predict(frame, box) for frame in frames]
        over = [draw_poses(*pair, keypoints, 0.1) for pair in zip(frames, poses, strict=True)]

        def one_after_the_other() -> None:
            with open_video(clip) as source:
                write(
                    drawn,
                    [draw_poses(f.image, estimator.predict(f.image, box), keypoints, 0.1) for f in source.frames()],
                )

        def at_once() -> None:
            predict_frames(
                runner, open_video(clip), VideoFiles.named("drawn", Path(folder), overlay=True, table=False), 0.1
            )

        def read() -> list[Frame]:
            with open_video(clip) as source:
                return list(source.frames())

        for _ in range(arguments.rounds):
            timed("read", read)
            timed("crop, network, decode", lambda: [estimator.predict(frame, box) for frame in frames])
            timed("draw", lambda: [draw_poses(*pair, keypoints, 0.1) for pair in zip(frames, poses, strict=True)])
            timed("encode", lambda: write(drawn, over))
            timed("one after the other", one_after_the_other)
            timed("predict", at_once)
            if has_cv:
                import cv2

                timed("read, OpenCV", lambda: cv_read(cv2, clip))
                timed("encode, OpenCV (MPEG-4 part 2)", lambda: cv_write(cv2, Path(folder, "cv.mp4"), over))
        write(drawn, over)
        print_table(
            f"{runner.label}, {arguments.size}, {arguments.frames} frames; ms a frame, medians of {arguments.rounds}",
            ["stage", "wall", "processor"],
            [[name, *(f"{statistics.median(column):.2f}" for column in zip(*rows, strict=True))]
             for name, rows in times.items()],
        )  # fmt: skip
        ratios = [b[0] / a[0] for a, b in zip(times["predict"], times["one after the other"], strict=True)]
        print(f"at once: {statistics.median(ratios):.2f} times as fast ({min(ratios):.2f} to {max(ratios):.2f})")
        files = {"predict's": drawn} | ({"OpenCV's": Path(folder, "cv.mp4")} if has_cv else {})
        for name, path in files.items():
            with open_video(path) as source:
                seen = [frame.image for frame in source.frames()]
            error = np.mean([np.mean((a.astype(float) - b) ** 2) for a, b in zip(seen, over, strict=True)])
            print(f"{name} file: {path.stat().st_size:,} bytes, PSNR {10 * np.log10(255**2 / error):.1f} dB")


if __name__ == "__main__":
    main()
