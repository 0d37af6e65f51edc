from __future__ import annotations

import csv
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bihrnet_edge.errors import SourceError, UserError
from bihrnet_edge.runtimes.base import Runner
from bihrnet_edge.runtimes.registry import open_runner
from bihrnet_edge.runtimes.video.capture import Frame, open_video
from bihrnet_edge.runtimes.video.predict import Stop, VideoFiles, VideoResult, predict_frames

Make = Callable[..., Path]
Pictures = list[NDArray[np.uint8]]
#: Dots go round; the three joints of the model are where they are.
PLACES = np.array(
    [[[40 + 9 * np.cos(t / 3 + k), 20 + 22 * k + 7 * np.sin(t / 3)] for k in range(3)] for t in range(12)]
)


@pytest.fixture(scope="module")
def runner(dot_model: Make) -> Iterator[Runner]:
    with open_runner(str(dot_model("dots"))) as runner:
        yield runner


class Pretended:
    """Frames that are there at once, of a camera that may break."""

    def __init__(self, pictures: Pictures, *, live: bool = False, breaks: str | None = None) -> None:
        self.name, self.path, self.live = "camera /dev/video0", Path("/dev/video0"), live
        self.time_base, self.rate, self.count = Fraction(1, 1000), Fraction(10), None
        self.pixel_aspect, self.problem = Fraction(1), None
        self._pictures, self._breaks = pictures, breaks
        self.closed = False

    def frames(self) -> Iterator[Frame]:
        for index, picture in enumerate(self._pictures):
            yield Frame(index, Fraction(index, 10), picture)
        self.problem = self._breaks

    def close(self) -> None:
        self.closed = True


def predict(runner: Runner, source: Any, out: Path, **options: Any) -> tuple[VideoResult, VideoFiles]:
    files = VideoFiles.named("clip", out, overlay=True, table=True)
    return predict_frames(runner, source, files, 0.1, **options), files


def listed(files: VideoFiles) -> Any:
    return json.loads(files.listing.read_text())


def drawn(files: VideoFiles) -> list[Frame]:
    assert files.video is not None
    with open_video(files.video) as source:
        frames = list(source.frames())
        assert source.problem is None
    return frames


def test_joints_of_every_frame_are_where_they_are(
    runner: Runner, make_video: Make, moving: Callable[..., Pictures], tmp_path: Path
) -> None:
    pictures = moving(PLACES)
    path = make_video(pictures)
    result, files = predict(runner, open_video(path), tmp_path)
    assert (result.frames, result.dropped, result.problem, result.stopped) == (12, 0, None, None)
    found = listed(files)
    assert (found["video"], found["height"], found["width"], found["model"]) == (str(path), 96, 128, "dots")
    assert [frame["frame"] for frame in found["frames"]] == list(range(12))
    for frame, places in zip(found["frames"], PLACES, strict=True):
        (person,) = frame["people"]
        joints = np.array([[joint["x"], joint["y"]] for joint in person["keypoints"]])
        assert np.abs(joints - places).max() < 4  # a heatmap's pixel is 5.3 of the picture's
        assert frame["time_s"] == pytest.approx(frame["frame"] / 30, abs=1e-6)
    assert [float(frame.time) for frame in drawn(files)] == pytest.approx(
        [f["time_s"] for f in found["frames"]], abs=1e-6
    )
    # What is drawn is over the joints, and nowhere else.
    image = drawn(files)[5].image.astype(int)
    changed = np.abs(image - pictures[5]).max(axis=2) > 60
    assert changed[tuple(np.rint(PLACES[5, 0, ::-1]).astype(int))]
    assert not changed[:, 80:].any()
    assert files.table is not None
    with files.table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12 * 3
    last = found["frames"][-1]["people"][0]["keypoints"][-1]
    assert (rows[-1]["frame"], rows[-1]["joint"], float(rows[-1]["x"])) == ("11", last["name"], last["x"])


def test_boxes_of_each_frame(runner: Runner, moving: Callable[..., Pictures], tmp_path: Path) -> None:
    boxes = {1: [(0.0, 0.0, 90.0, 90.0)], 2: [(0.0, 0.0, 90.0, 90.0), (5.0, 5.0, 50.0, 50.0)]}
    source = Pretended(moving(PLACES[:4]))
    _, files = predict(runner, source, tmp_path, boxes=lambda frame: boxes.get(frame, []))
    assert source.closed
    people = [frame["people"] for frame in listed(files)["frames"]]
    assert [[tuple(person["box"]) for person in found] for found in people] == [[], boxes[1], boxes[2], []]
    assert np.abs(drawn(files)[0].image.astype(int) - moving(PLACES[:1])[0]).max() < 60  # nobody, nothing drawn


def test_an_unplugged_camera_leaves_whole_files(
    runner: Runner, moving: Callable[..., Pictures], tmp_path: Path
) -> None:
    source = Pretended(moving(PLACES), breaks="the camera /dev/video0 gives no more pictures (No such device)")
    result, files = predict(runner, source, tmp_path)
    assert result.problem == source.problem
    assert result.frames == len(listed(files)["frames"]) == len(drawn(files)) == 12


def test_a_run_that_is_stopped_leaves_whole_files(
    runner: Runner, moving: Callable[..., Pictures], tmp_path: Path
) -> None:
    stop = Stop()

    def progress(done: int, _total: int | None) -> None:
        if done == 5:
            stop.set()

    result, files = predict(runner, Pretended(moving(PLACES)), tmp_path, stop=stop, progress=progress)
    assert result.frames == len(listed(files)["frames"]) == len(drawn(files)) == 5
    limited, files = predict(runner, Pretended(moving(PLACES), breaks="x"), tmp_path, limit=3)
    assert (limited.frames, limited.problem) == (3, None)
    assert len(listed(files)["frames"]) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in files.all)


def test_a_slow_network_gets_the_newest_of_a_camera(
    runner: Runner, moving: Callable[..., Pictures], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Pretended(moving(PLACES), live=True)
    result, files = predict(runner, source, tmp_path, progress=lambda *_: time.sleep(0.2))
    assert result.dropped > 0
    assert result.frames + result.dropped == 12
    numbers = [frame["frame"] for frame in listed(files)["frames"]]
    assert numbers == sorted(numbers)
    assert numbers[-1] == 11
    assert [float(frame.time) for frame in drawn(files)] == pytest.approx([(n - numbers[0]) / 10 for n in numbers])


def test_no_frame_no_files(runner: Runner, tmp_path: Path) -> None:
    for problem in (None, "the camera gives no more pictures"):
        with pytest.raises(SourceError, match=r"nothing was written\.$"):
            predict(runner, Pretended([], breaks=problem), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_errors_of_any_thread_leave_nothing(
    runner: Runner, moving: Callable[..., Pictures], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Torn(Pretended):
        def frames(self) -> Iterator[Frame]:
            yield from super().frames()
            raise RuntimeError("torn")

    def fail(done: int, _total: int | None) -> None:
        raise RuntimeError("network")

    before = tmp_path / "clip.keypoints.json"
    before.write_text("before")
    with pytest.raises(RuntimeError, match="torn"):
        predict(runner, Torn(moving(PLACES)), tmp_path)
    with pytest.raises(RuntimeError, match="network"):
        predict(runner, Pretended(moving(PLACES)), tmp_path, progress=fail)
    with pytest.raises(UserError, match="has no area"):
        predict(runner, Pretended(moving(PLACES)), tmp_path, boxes=lambda _: [(0.0, 0.0, 0.0, 1.0)])
    assert [path.name for path in tmp_path.iterdir()] == ["clip.keypoints.json"]
    assert before.read_text() == "before"


def test_a_full_disk_leaves_nothing(
    dot_model: Make, make_video: Make, noise: Callable[..., Pictures], tmp_path: Path
) -> None:
    """A limit on the size of files stops FFmpeg and Python where a full disk would."""
    program = (
        "import resource, sys; from bihrnet_edge.cli import main\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)\n"
        "main(sys.argv[2:])\n"
    )
    video = make_video(noise(60))
    for limit, options in ((30_000, []), (3_000, ["--no-overlay", "--csv"])):
        command = [sys.executable, "-c", program, str(limit), "predict", str(dot_model("dots")), str(video), *options]
        done = subprocess.run([*command, "--out", str(tmp_path / "out")], capture_output=True, text=True, check=False)
        assert done.returncode == 2, done.stderr
        assert "cannot write" in done.stderr
        assert "File too large" in done.stderr
        assert "Traceback" not in done.stderr
        assert list((tmp_path / "out").iterdir()) == []


def test_memory_does_not_grow_with_the_video(runner: Runner, tmp_path: Path) -> None:
    class Long(Pretended):
        alive = highest = 0

        def frames(self) -> Iterator[Frame]:
            for index in range(60):
                yield Frame(index, Fraction(index, 10), np.zeros((64, 48, 3), np.uint8))
                waiting = index + 1 - self.done
                self.highest = max(self.highest, waiting)

        done = 0

    source = Long([])

    def progress(done: int, _total: int | None) -> None:
        source.done = done

    predict(runner, source, tmp_path, progress=progress)
    assert source.highest <= 5
