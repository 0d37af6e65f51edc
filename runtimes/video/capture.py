"""Frames of video files and cameras, through FFmpeg (the package ``av``)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bihrnet_edge.errors import SourceError, first_line, require_module

if TYPE_CHECKING:
    import av

#: Files that are read as videos; what else there is, Pillow reads or refuses.
VIDEO_SUFFIXES = frozenset(
    f".{name}"
    for name in (
        "3gp", "asf", "avi", "flv", "h264", "h265", "hevc", "m2ts", "m4v", "mjpeg", "mjpg", "mkv", "mov", "mp4", "mpeg",
        "mpg", "mts", "mxf", "ogv", "ts", "vob", "webm", "wmv", "y4m",
    )
)  # fmt: skip
INSTALL = 'run: pip install "bihrnet-edge[video]"'
#: Of V4L2, the cameras of Linux.
_CAMERAS = "v4l2"
#: More pixels than any camera has: a file that claims more is not decoded.
_MAX_PIXELS = 1 << 26
#: A file that ends this much before its end was cut off, in seconds and as a part of its length. The last frame of a
#: video with a variable rate may stay for a while, which not every container says.
_SHORT_S, _SHORT = 1.0, 0.05
#: FFmpeg's numbers of colour matrices (AVColorSpace): HD is BT.709, the rest BT.601, or BT.470 which is the same.
BT709, BT601 = 1, 6
_NOT_TOLD, _BT470 = 2, 5
#: FFmpeg's number (AVColorRange) for brightness from 0 to 255, as JPEG's and most webcams' is, and not 16 to 235.
_FULL_RANGE = 2
#: Rows from which on a video is HD, and taken for BT.709 where it does not tell.
HD_HEIGHT = 720
#: Seconds, where a file does not say in what it counts.
_TIME_BASE = Fraction(1, 1_000_000)


@dataclass(frozen=True, eq=False)
class Frame:
    """A picture at a time.

    Attributes:
        index: from 0, of the frames that could be decoded.
        time: seconds since the first.
        image: uint8 RGB ``(H, W, 3)``, upright.
    """

    index: int
    time: Fraction
    image: NDArray[np.uint8]


class FrameSource(Protocol):
    """Where frames come from.

    Attributes:
        name: what people call it, e.g. ``camera /dev/video0``.
        path: of the file or the device.
        live: frames come whether anybody takes them or not.
        time_base: seconds; every frame's time is about a multiple of it.
        rate: frames a second, on average; None where nobody knows.
        count: frames that there should be; None where nobody knows.
        pixel_aspect: width of a pixel over its height.
        problem: once the frames have ended, why too early; None where all was well.
    """

    name: str
    path: Path
    live: bool
    time_base: Fraction
    rate: Fraction | None
    count: int | None
    pixel_aspect: Fraction
    problem: str | None

    def frames(self) -> Iterator[Frame]:
        """Every frame once, in order of time; what is damaged is left out."""
        ...

    def close(self) -> None:
        """Let go of the file or the camera."""
        ...


class Capture:
    """A video file, or a camera.

    Args:
        path: of the file or the device.
        name: what people call it.
        device: FFmpeg's name of what the camera speaks; None for a file.
        options: of FFmpeg's reader, e.g. ``{"video_size": "1280x720"}``.

    Raises:
        SourceError: it cannot be read or holds no pictures.
        UserError: ``av`` is not installed.
    """

    def __init__(self, path: Path, name: str, device: str | None = None, options: dict[str, str] | None = None) -> None:
        self._av: Any = require_module("av", f"predicting the {name}", INSTALL)
        self.name, self.path, self.live = name, path, device is not None
        self.problem: str | None = None
        try:
            self._container = self._av.open(str(path), format=device, options=options or {})
        except OSError as error:
            raise SourceError(
                f"the {name} cannot be opened ({error.strerror}); {_advice(error, self.live)}."
            ) from error
        except Exception as error:  # FFmpeg's own errors share no base class but Exception
            raise SourceError(f"the {name} cannot be read ({said(error)}); it may be damaged or no video.") from error
        if not self._container.streams.video:
            self.close()
            raise SourceError(f"the {name} holds no pictures; give a video.")
        stream: av.VideoStream = self._container.streams.video[0]
        if not self.live:
            stream.thread_type = "AUTO"  # which delays a camera's pictures
        stream.codec_context.options = {"max_pixels": str(_MAX_PIXELS)}
        self._stream = stream
        self.time_base: Fraction = stream.time_base or _TIME_BASE
        self.rate: Fraction | None = stream.average_rate or stream.base_rate or None
        self.count = stream.frames or None
        self.pixel_aspect: Fraction = stream.sample_aspect_ratio or Fraction(1)
        self._length = None if self.live else _length(self._container, stream)

    def frames(self) -> Iterator[Frame]:
        """As :class:`FrameSource` has it."""
        tick, step = self.time_base, 1 / (self.rate or Fraction(30))
        first = last = None
        index = damaged = 0
        size: tuple[int, ...] | None = None
        for frame in self._decoded():
            if frame is None:
                damaged += 1
                continue
            time = frame.pts * frame.time_base if frame.pts is not None and frame.time_base else None
            if time is None:
                time = Fraction(0) if last is None else last + step
            if first is None:
                first = time
            if last is not None and time <= last:  # a file that contradicts itself
                time = last + tick
            last = time
            image = _upright(frame)
            if size is None:
                size = image.shape
                if frame.rotation % 180:
                    self.pixel_aspect = 1 / self.pixel_aspect
            if image.shape != size:
                self.problem = (
                    f"the {self.name} changes its size from {size[1]}x{size[0]} to {image.shape[1]}x{image.shape[0]} "
                    f"after {index} frames"
                )
                return
            yield Frame(index, time - first, image)
            index += 1
        if self.problem is None and damaged:
            self.problem = f"the {self.name} is damaged: {damaged} pieces of it could not be decoded"
        end = Fraction(0) if last is None or first is None else last - first + step
        if self.problem is None and self._length and end < self._length - max(_SHORT_S, _SHORT * self._length):
            self.problem = f"the {self.name} ends after {float(end):.1f} s of {float(self._length):.1f} s"

    def _decoded(self) -> Iterator[av.VideoFrame | None]:
        """Frames, and None for what could not be decoded."""
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except Exception as error:  # as in the constructor
                if self.live:
                    self.problem = f"the {self.name} gives no more pictures ({said(error)})"
                    return
                yield None
                return
            try:
                frames = packet.decode()
            except Exception:  # a damaged piece; the next one may be sound
                yield None
                continue
            yield from frames
            if packet.is_corrupt:
                yield None

    def close(self) -> None:
        """Let go of the file or the camera."""
        self._container.close()

    def __enter__(self) -> Capture:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_video(path: Path) -> Capture:
    """A video file; errors as those of :class:`Capture`."""
    if not path.is_file():
        raise SourceError(f"the video {path} does not exist; check the path.")
    return Capture(path, f"video {path}")


def open_camera(device: Path, size: str | None = None) -> Capture:
    """A camera of Linux (V4L2).

    Args:
        device: e.g. ``/dev/video0``.
        size: ``1280x720``; the camera's own choice unless given.

    Raises:
        SourceError, UserError: as :class:`Capture` does.
    """
    return Capture(device, f"camera {device}", _CAMERAS, {} if size is None else {"video_size": size})


def _upright(frame: av.VideoFrame) -> NDArray[np.uint8]:
    # Not all versions of av go by what the frame says of its colours.
    told = int(frame.colorspace)
    guess = BT709 if frame.height >= HD_HEIGHT else BT601
    matrix = {BT709: BT709, _NOT_TOLD: guess, _BT470: BT601, BT601: BT601}.get(told)
    full = frame.color_range == _FULL_RANGE or frame.format.name.startswith("yuvj")
    # The second matrix says nothing of RGB; older versions look at the first only where the two differ.
    rgb = frame.reformat(
        format="rgb24", src_colorspace=matrix, dst_colorspace=_BT470, src_color_range=_FULL_RANGE if full else None
    )
    image = np.asarray(rgb.to_ndarray(), np.uint8)
    turns = round(frame.rotation / 90) % 4  # counter-clockwise, like NumPy's
    return np.ascontiguousarray(np.rot90(image, turns)) if turns else image


def _length(container: Any, stream: av.VideoStream) -> Fraction | None:
    """Seconds that the file says its pictures take; Matroska says so for the whole only, or in a tag."""
    if stream.duration and stream.time_base:
        return stream.duration * stream.time_base
    if container.duration and len(container.streams) == 1:
        return int(container.duration) * _TIME_BASE
    return None


def said(error: Exception) -> str:
    """What FFmpeg says, without the number before and the path behind."""
    return str(getattr(error, "strerror", None) or first_line(error))


def _advice(error: OSError, live: bool) -> str:
    if isinstance(error, PermissionError):
        return "become a member of the group video" if live else "get the right to read it"
    if not live:
        return "check the path"
    found = sorted(str(path) for path in Path("/dev").glob("video*"))
    return f"this machine has {', '.join(found)}" if found else "this machine has no camera"
