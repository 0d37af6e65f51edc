from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bihrnet_edge.errors import UserError
from bihrnet_edge.runtimes.video.capture import open_video
from bihrnet_edge.runtimes.video.writer import VideoWriter

av = pytest.importorskip("av")


def picture(height: int, width: int, seed: int = 0) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    coarse = np.random.default_rng(seed).integers(0, 256, (-(-height // 16), -(-width // 16), 3), np.uint8)
    return np.repeat(np.repeat(coarse, 16, 0), 16, 1)[:height, :width]


@settings(deadline=None, max_examples=25)
@given(
    gaps=st.lists(st.integers(1, 900), min_size=1, max_size=6),
    base=st.sampled_from([Fraction(1, 1000), Fraction(1, 90000), Fraction(1001, 30000), Fraction(1, 1_000_000)]),
    size=st.tuples(st.integers(2, 70), st.integers(2, 70)),
)
def test_pictures_keep_their_times_and_their_size(
    tmp_path_factory: pytest.TempPathFactory, gaps: list[int], base: Fraction, size: tuple[int, int]
) -> None:
    path = tmp_path_factory.mktemp("w") / "v.mp4"
    times = [base * sum(gaps[:index]) for index in range(len(gaps) + 1)]
    writer = VideoWriter(path, size, base, Fraction(30))
    for index, time in enumerate(times):
        writer.write(picture(*size, index), time)
    writer.finish()
    with open_video(path) as source:
        frames = list(source.frames())
        assert source.problem is None
    # An MP4 counts in whole parts of a second, 16,000 of them at most where FFmpeg may choose.
    assert [float(frame.time) for frame in frames] == pytest.approx([float(time) for time in times], abs=1e-4)
    for index, frame in enumerate(frames):
        assert frame.image.shape[:2] == tuple(value + value % 2 for value in size)
        seen = frame.image[: size[0], : size[1]].astype(int)
        assert np.abs(seen - picture(*size, index)).mean() < 20


@pytest.mark.parametrize("height", [64, 720])
@pytest.mark.parametrize("colour", [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (90, 160, 30)])
def test_colours_are_kept(tmp_path: Path, height: int, colour: tuple[int, int, int]) -> None:
    path = tmp_path / "v.mp4"
    writer = VideoWriter(path, (height, 64), Fraction(1, 30))
    writer.write(np.broadcast_to(np.array(colour, np.uint8), (height, 64, 3)), Fraction(0))
    writer.finish()
    with open_video(path) as source:
        (frame,) = source.frames()
    assert np.abs(frame.image.astype(int) - colour).max() <= 4
    with av.open(str(path)) as container:  # players go by what the file says
        assert container.streams.video[0].codec_context.colorspace == (1 if height == 720 else 6)


def test_pixels_that_are_not_square(tmp_path: Path) -> None:
    writer = VideoWriter(tmp_path / "v.mp4", (64, 48), Fraction(1, 30), None, Fraction(4, 3))
    writer.write(picture(64, 48), Fraction(0))
    writer.finish()
    with open_video(tmp_path / "v.mp4") as source:
        assert source.pixel_aspect == Fraction(4, 3)


def test_times_that_are_one_after_rounding(tmp_path: Path) -> None:
    writer = VideoWriter(tmp_path / "v.mp4", (64, 48), Fraction(1, 30))
    for time in (Fraction(0), Fraction(1, 1000), Fraction(2, 1000), Fraction(1)):
        writer.write(picture(64, 48), time)
    writer.finish()
    with open_video(tmp_path / "v.mp4") as source:
        assert [frame.time for frame in source.frames()] == [0, Fraction(1, 30), Fraction(2, 30), 1]


def test_what_cannot_be_written(tmp_path: Path) -> None:
    writer = VideoWriter(tmp_path / "none" / "v.mp4", (64, 48), Fraction(1, 30))
    with pytest.raises(OSError, match="No such file"):
        writer.write(picture(64, 48), Fraction(0))
        writer.finish()
    writer.abandon()
    with pytest.raises(UserError, match=r"FFmpeg cannot encode v\.mp4"):
        VideoWriter(tmp_path / "v.mp4", (64, 40_000), Fraction(1, 30))
    writer = VideoWriter(tmp_path / "v.mp4", (64, 48), Fraction(1, 30))
    with pytest.raises(ValueError, match="the picture is"):
        writer.write(picture(48, 64), Fraction(0))
    writer.abandon()
