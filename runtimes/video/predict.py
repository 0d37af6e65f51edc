"""Joints of people in a video or before a camera: a JSON file, a drawn video and a CSV file."""

from __future__ import annotations

import contextlib
import csv
import itertools
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bihrnet_edge.errors import SourceError
from bihrnet_edge.files import atomic_path, check_writable
from bihrnet_edge.pose.draw import draw_poses
from bihrnet_edge.runtimes.base import Runner
from bihrnet_edge.runtimes.estimator import PoseEstimator
from bihrnet_edge.runtimes.listings import CSV_COLUMNS, VideoListing, joint_rows
from bihrnet_edge.runtimes.people import Box, describe_people, whole_picture
from bihrnet_edge.runtimes.video.capture import Frame, FrameSource
from bihrnet_edge.runtimes.video.relay import Relay
from bihrnet_edge.runtimes.video.writer import VideoWriter

#: Frames that wait between two threads; more only take memory.
_WAITING = 2
#: A camera's thread may hang in the driver when everything else is done.
_PATIENCE_S = 2.0
_STOPS = ("SIGINT", "SIGTERM", "SIGHUP")


@dataclass(frozen=True)
class VideoFiles:
    """Where a video's results go.

    Attributes:
        listing: the JSON file.
        video: the drawn MP4; None for none.
        table: the CSV file; None for none.
    """

    listing: Path
    video: Path | None
    table: Path | None

    @classmethod
    def named(cls, stem: str, out: Path, *, overlay: bool, table: bool) -> VideoFiles:
        """``STEM.keypoints.json`` and its companions in the folder ``out``."""
        return cls(
            out / f"{stem}.keypoints.json",
            out / f"{stem}.pose.mp4" if overlay else None,
            out / f"{stem}.keypoints.csv" if table else None,
        )

    @property
    def all(self) -> list[Path]:
        """Those that are wanted."""
        return [path for path in (self.listing, self.video, self.table) if path is not None]

    def check(self) -> None:
        """A :class:`UserError` where one of them cannot be written; makes their folder."""
        for path in self.all:
            check_writable(path)


@dataclass(frozen=True)
class VideoResult:
    """What :func:`predict_frames` did.

    Attributes:
        frames: that were predicted and written.
        dropped: a camera's frames that came while the network was busy.
        seconds: wall-clock time of it all.
        problem: why the frames ended too early, a clause without its full stop; None where all was well.
        stopped: the signal's number that ended it; None where none did.
    """

    frames: int
    dropped: int
    seconds: float
    problem: str | None
    stopped: int | None

    @property
    def fps(self) -> float:
        """Frames a second, with everything around the network."""
        return self.frames / self.seconds if self.seconds else 0.0


class Stop(threading.Event):
    """Asks a run to come to its end; ``signal`` says which signal did, if one did."""

    signal: int | None = None


@contextlib.contextmanager
def stopped_by_signals() -> Iterator[Stop]:
    """While this is open, Ctrl-C, a hang-up and ``kill`` set an event; a second one acts as ever."""
    stop = Stop()
    before: dict[int, Any] = {}

    def handle(number: int, _frame: FrameType | None) -> None:
        stop.signal = number
        stop.set()
        restore()

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)
        before.clear()

    if threading.current_thread() is threading.main_thread():  # nobody else may
        for name in _STOPS:
            number = getattr(signal, name)
            if signal.getsignal(number) not in (signal.SIG_IGN, None):  # nohup's programs go on
                before[number] = signal.signal(number, handle)
    try:
        yield stop
    finally:
        restore()


def predict_frames(
    runner: Runner,
    source: FrameSource,
    files: VideoFiles,
    threshold: float,
    *,
    boxes: Callable[[int], list[Box]] | None = None,
    limit: int | None = None,
    stop: Stop | None = None,
    progress: Callable[[int, int | None], None] | None = None,
) -> VideoResult:
    """Predict every frame; reading and writing go on in threads of their own meanwhile.

    However the frames end, the files hold all that came before and are whole; where they cannot be written, none of
    them is there, and what was there before stays.

    Args:
        runner: the network.
        source: of the frames; closed in the end.
        files: to be written.
        threshold: joints of a lower score are not drawn; JSON and CSV hold all.
        boxes: of the people in a frame, by its number; the whole frame is one person unless given.
        limit: stop after so many frames.
        stop: ends the run early when set.
        progress: called with the frames done, and all there should be or None.

    Raises:
        SourceError: the source gave no frame at all.
        UserError: a file cannot be written.
    """
    stop = stop or Stop()
    read: Relay[Frame] = Relay(_WAITING, newest=source.live)
    reader = threading.Thread(target=_read, args=(source, read, limit), daemon=True, name="frames")
    started = time.perf_counter()
    done = 0
    reader.start()
    try:
        with contextlib.ExitStack() as stack:
            sink = stack.enter_context(_Sink(runner, source, files, threshold))
            estimator = PoseEstimator(runner)
            total = source.count if limit is None else min(limit, source.count or limit)
            for frame in read.taken(stop):
                places = boxes(frame.index) if boxes else [whole_picture(frame.image, runner.metadata)]
                if not sink.put(frame, places, estimator.predict(frame.image, places)):
                    break
                done += 1
                if progress is not None:
                    progress(done, total)
                if done == limit:
                    break
            read.leave()
            sink.finish()
            if not done:
                raise SourceError(f"{source.problem or f'the {source.name} gave no picture'}; nothing was written.")
    finally:
        read.leave()
        reader.join(_PATIENCE_S if source.live else None)
        if not reader.is_alive():
            source.close()
    problem = source.problem if not stop.is_set() and done != limit else None
    return VideoResult(done, read.dropped, time.perf_counter() - started, problem, stop.signal)


def _read(source: FrameSource, relay: Relay[Frame], limit: int | None) -> None:
    try:
        for frame in source.frames():
            if not relay.put(frame) or (limit is not None and not source.live and frame.index + 1 >= limit):
                break
        relay.end()
    except BaseException as error:  # raised where the frames are taken
        relay.end(error)


class _Sink:
    """Draws and writes in a thread of its own; nothing is there before :meth:`finish`, nor after an error."""

    def __init__(self, runner: Runner, source: FrameSource, files: VideoFiles, threshold: float) -> None:
        self._metadata, self._source, self._files, self._threshold = runner.metadata, source, files, threshold
        self._relay: Relay[tuple[Frame, list[Box], NDArray[np.float32]]] = Relay(_WAITING)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="results")

    def __enter__(self) -> _Sink:
        self._thread.start()
        return self

    def put(self, frame: Frame, boxes: list[Box], poses: NDArray[np.float32]) -> bool:
        """False where writing has failed."""
        return self._relay.put((frame, boxes, poses))

    def finish(self) -> None:
        """Write everything out, or raise what went wrong."""
        self._relay.end()
        self._thread.join()
        if self._error is not None:
            raise self._error

    def __exit__(self, *_: object) -> None:
        self._relay.end(_AbandonedError())
        self._thread.join()

    def _run(self) -> None:
        try:
            with contextlib.ExitStack() as stack:
                self._write(stack)
        except _AbandonedError:
            pass
        except BaseException as error:
            self._error = error
        finally:
            self._relay.leave()

    def _write(self, stack: contextlib.ExitStack) -> None:
        files, keypoints = self._files, self._metadata.keypoints
        frames = self._relay.taken()
        if (first := next(frames, None)) is None:
            return
        height, width = first[0].image.shape[:2]
        listing_file = stack.enter_context(stack.enter_context(atomic_path(files.listing)).open("w", encoding="utf-8"))
        listing = VideoListing(listing_file, str(self._source.path), (height, width), self._metadata.name, keypoints)
        texts = [listing_file]
        table = None
        if files.table is not None:
            temporary = stack.enter_context(atomic_path(files.table))
            texts.append(stack.enter_context(temporary.open("w", encoding="utf-8", newline="")))
            table = csv.writer(texts[-1], lineterminator="\n")
            table.writerow(CSV_COLUMNS)
        video = None
        if files.video is not None:
            video = VideoWriter(
                stack.enter_context(atomic_path(files.video)), (height, width), self._source.time_base,
                self._source.rate, self._source.pixel_aspect,
            )  # fmt: skip
            stack.callback(video.abandon)
        for frame, boxes, poses in itertools.chain([first], frames):
            people, time_s = describe_people(boxes, poses, keypoints), round(float(frame.time), 6)
            listing.add(frame.index, time_s, people)
            if table is not None:
                table.writerows(joint_rows(str(self._source.path), people, frame.index, time_s))
            if video is not None:
                video.write(draw_poses(frame.image, poses, keypoints, self._threshold), frame.time)
        listing.finish()
        if video is not None:
            video.finish()
        for text in texts:  # a disk that is full says so here, before any file has its final name
            text.close()


class _AbandonedError(Exception):
    """The frames ended by an error elsewhere."""
