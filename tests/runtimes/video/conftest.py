"""Videos of a few frames, small enough to be made for every test run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

Pictures = Sequence[NDArray[np.uint8]]


@pytest.fixture(scope="session")
def make_video(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Writes pictures nearly without loss; ``faststart`` puts an MP4's index before its pictures."""
    av = pytest.importorskip("av")

    def make(
        pictures: Pictures, name: str = "clip.mp4", *, rate: int = 30, faststart: bool = False, audio: bool = False
    ) -> Path:
        path: Path = tmp_path_factory.mktemp("video") / name
        options = {"movflags": "faststart"} if faststart else {}
        with av.open(str(path), "w", options=options) as container:
            if audio:
                stream = container.add_stream("aac", rate=8000, layout="mono")
                sound = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), format="fltp", layout="mono")
                sound.sample_rate = 8000
                container.mux(stream.encode(sound))
                container.mux(stream.encode(None))
                return path
            # Every fourth picture stands alone, so that what is cut off costs few of those before.
            stream = container.add_stream("libx264", rate=rate, options={"crf": "4", "preset": "ultrafast", "g": "4"})
            stream.height, stream.width, stream.pix_fmt = *pictures[0].shape[:2], "yuv444p"
            for index, picture in enumerate(pictures):
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts, frame.time_base = index, Fraction(1, rate)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        return path

    return make


@pytest.fixture(scope="session")
def moving() -> Callable[..., list[NDArray[np.uint8]]]:
    """Pictures of three dots, red, green and blue, that move; the dots' places are ``(frames, 3, 2)``."""

    def make(places: NDArray[np.float64], height: int = 96, width: int = 128) -> list[NDArray[np.uint8]]:
        x, y = np.arange(width), np.arange(height)[:, None]
        return [
            np.rint(
                np.stack([255 * np.exp(-((x - px) ** 2 + (y - py) ** 2) / 60) for px, py in frame], axis=-1)
            ).astype(np.uint8)
            for frame in places
        ]

    return make


@pytest.fixture(scope="session")
def noise() -> Callable[..., list[Any]]:
    """Pictures that do not compress, so that a file has something to be cut off."""

    def make(count: int, height: int = 64, width: int = 96) -> list[Any]:
        rng = np.random.default_rng(4)
        return [np.repeat(np.repeat(rng.integers(0, 255, (height // 4, width // 4, 3), np.uint8), 4, 0), 4, 1)
                for _ in range(count)]  # fmt: skip

    return make
