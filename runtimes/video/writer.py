"""MP4 files of pictures, through FFmpeg (the package ``av``)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bihrnet_edge.errors import UserError, require_module
from bihrnet_edge.runtimes.video.capture import BT601, BT709, HD_HEIGHT, INSTALL, said

#: H.264 plays in browsers and on phones; where an FFmpeg was built without x264, MPEG-4 part 2 plays on desktops.
_ENCODERS: tuple[tuple[str, dict[str, str]], ...] = (
    ("libx264", {"preset": "veryfast", "crf": "20"}),
    ("mpeg4", {"q:v": "3"}),
)
#: Finer times than this are rounded, in parts of a second.
_MAX_TIME_BASE = 1_000_000


class VideoWriter:
    """An MP4 file of pictures, with the times that they are given.

    Args:
        path: the file; made anew.
        size: ``(height, width)`` of the pictures; the video is a pixel larger where one is odd.
        time_base: seconds; times are rounded to it.
        rate: frames a second, about.
        pixel_aspect: width of a pixel over its height.

    Raises:
        OSError: the file cannot be written.
        UserError: FFmpeg has no encoder, or it refuses the size; or ``av`` is not installed.
    """

    def __init__(
        self,
        path: Path,
        size: tuple[int, int],
        time_base: Fraction,
        rate: Fraction | None = None,
        pixel_aspect: Fraction = Fraction(1),
    ) -> None:
        self._av: Any = require_module("av", "writing a video", INSTALL)
        self._size = size
        height, width = (value + value % 2 for value in size)
        self._path, self._last = path, -1
        self._time_base = time_base if time_base.denominator <= _MAX_TIME_BASE else Fraction(1, _MAX_TIME_BASE)
        self._matrix = BT709 if height >= HD_HEIGHT else BT601
        with self._explained():
            self._container = self._av.open(str(path), "w", format="mp4")
        try:
            with self._explained():
                self._stream = self._add_stream(rate or Fraction(30))
                self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, "yuv420p"
                context = self._stream.codec_context
                context.time_base, context.sample_aspect_ratio = self._time_base, pixel_aspect
                context.colorspace = self._matrix
                context.color_range = 1  # 16 to 235, what players expect
                context.open()
        except BaseException:
            self.abandon()
            raise

    def _add_stream(self, rate: Fraction) -> Any:
        for name, options in _ENCODERS:
            if name in self._av.codecs_available:
                return self._container.add_stream(name, rate=rate.limit_denominator(1001), options=options)
        names = ", ".join(name for name, _ in _ENCODERS)
        raise UserError(f"this FFmpeg has none of the encoders {names}; {INSTALL}, which brings one that has.")

    def write(self, image: NDArray[np.uint8], time: Fraction) -> None:
        """Append a picture ``(H, W, 3)`` that is shown from ``time`` on, in seconds; later than the one before."""
        if image.shape != (*self._size, 3):
            raise ValueError(f"the picture is {image.shape}, the video {self._size}")
        odd = [(0, value % 2) for value in self._size]
        even = np.pad(image, (*odd, (0, 0)), mode="edge") if any(o[1] for o in odd) else image
        pts = max(self._last + 1, round(time / self._time_base))
        self._last = pts
        with self._explained():
            frame = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(even), format="rgb24")
            frame = frame.reformat(format="yuv420p", dst_colorspace=self._matrix)
            frame.pts, frame.time_base = pts, self._time_base
            self._container.mux(self._stream.encode(frame))

    def finish(self) -> None:
        """Write what is still held back, and the index without which no player opens the file."""
        with self._explained():
            self._container.mux(self._stream.encode(None))
            self._container.close()

    def abandon(self) -> None:
        """Close the file as it is."""
        with contextlib.suppress(Exception):  # what went wrong has been said; this may fail for the same reason
            self._container.close()

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (OSError, UserError):
            raise
        except self._av.FFmpegError as error:
            raise UserError(f"FFmpeg cannot encode {self._path.name} ({said(error)}); give another video.") from error
