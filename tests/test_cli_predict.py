"""``predict`` as a person runs it: files, folders, boxes, cameras, and what goes wrong."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from helpers import fails, run
from PIL import Image

from bihrnet_edge.cli_predict import bare_camera
from bihrnet_edge.runtimes.onnx_runtime import OnnxRunner

Make = Callable[..., Path]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two pictures, a video of five frames, something else, and what an earlier run drew."""
    av = pytest.importorskip("av")
    (tmp_path / "in").mkdir()
    rng = np.random.default_rng(0)
    for name in ("1.png", "2.jpg", "1.pose.png"):
        Image.fromarray(rng.integers(0, 255, (90, 70, 3), np.uint8)).save(tmp_path / "in" / name)
    (tmp_path / "in" / "notes.txt").write_text("none")
    with av.open(str(tmp_path / "in" / "clip.mkv"), "w") as container:
        stream = container.add_stream("libx264", rate=1)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for index in range(5):
            frame = av.VideoFrame.from_ndarray(rng.integers(0, 255, (64, 96, 3), np.uint8), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return tmp_path / "in"


def test_a_folder_with_boxes(dot_model: Make, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records = [
        {"file_name": name, "image_id": number, "category_id": 1, "bbox": [5, 5, 40, 50], "score": score}
        for name, number, score in (("1.png", 0, 0.9), ("1.png", 0, 0.8), ("clip.mkv", 3, 0.9), ("2.jpg", 0, 0.1))
    ]
    (tmp_path / "boxes.json").write_text(json.dumps(records))
    out = tmp_path / "out"
    assert run("predict", dot_model("dots"), folder, "--boxes", tmp_path / "boxes.json", "--csv", "--out", out) == 0
    printed = capsys.readouterr()
    assert "1 score below the threshold" in printed.err
    names = {path.name for path in out.iterdir()}
    assert names == {
        *(f"{stem}.keypoints.{kind}" for stem in ("1", "2", "clip") for kind in ("json", "csv")),
        "1.pose.png", "2.pose.png", "clip.pose.mp4",
    }  # fmt: skip
    assert all(str(out / name) in printed.out for name in names)
    assert "5 frames at" in printed.out
    one, two, clip = (json.loads((out / f"{stem}.keypoints.json").read_text()) for stem in ("1", "2", "clip"))
    assert [person["box"] for person in one["people"]] == [[5, 5, 40, 50]] * 2
    assert two["people"] == []
    assert [len(frame["people"]) for frame in clip["frames"]] == [0, 0, 0, 1, 0]
    assert (out / "2.keypoints.csv").read_text().count("\n") == 1
    assert (out / "1.keypoints.csv").read_text().count("\n") == 1 + 2 * 3


def test_pictures_need_no_av_and_one_bad_one_stops_no_others(
    dot_model: Make, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    out = tmp_path / "out"
    assert 'pip install "bihrnet-edge[video]"' in fails(capsys, "predict", dot_model("dots"), folder, "--out", out)
    assert 'pip install "bihrnet-edge[video]"' in fails(capsys, "predict", dot_model("dots"), "--camera", "--out", out)
    assert not out.exists()
    (folder / "0.png").write_bytes(b"no picture")
    (folder / "clip.mkv").unlink()
    arguments = ("predict", dot_model("dots"), folder, "--no-overlay", "--out", out)
    assert "0.png cannot be read" in fails(capsys, *arguments)
    assert {path.name for path in out.iterdir()} == {"1.keypoints.json", "2.keypoints.json"}


def test_a_video_that_was_cut_off(
    dot_model: Make, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = (folder / "clip.mkv").read_bytes()
    (tmp_path / "cut.mkv").write_bytes(data[: len(data) * 6 // 10])
    (tmp_path / "bad.mkv").write_bytes(b"bad")
    out = tmp_path / "out"
    sentence = fails(
        capsys,
        "predict",
        dot_model("dots"),
        tmp_path / "cut.mkv",
        tmp_path / "bad.mkv",
        folder / "clip.mkv",
        "--out",
        out,
    )
    assert sentence.endswith("(and 1 more like it).")
    frames = len(json.loads((out / "clip.keypoints.json").read_text())["frames"])
    assert frames == 5
    assert {path.name for path in out.iterdir()} == {
        "clip.keypoints.json", "clip.pose.mp4", "cut.keypoints.json", "cut.pose.mp4",
    }  # fmt: skip


def test_a_camera_is_watched_until_ctrl_c(dot_model: Make, tmp_path: Path) -> None:
    """FFmpeg's own test pictures come through the interface that cameras have, and never end."""
    av = pytest.importorskip("av")
    program = (
        "import sys; from pathlib import Path; from bihrnet_edge import cli, cli_predict\n"
        "from bihrnet_edge.runtimes.video import capture\n"
        "capture._CAMERAS = 'lavfi'; cli_predict._device = lambda camera: Path('testsrc=size=96x64:rate=20,realtime')\n"
        "cli.main(sys.argv[1:])\n"
    )
    command = [sys.executable, "-c", program, "predict", str(dot_model("dots")), "--camera", "--out", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and process.poll() is None:  # until a video has begun
            if any(path.stat().st_size for path in tmp_path.glob(".*.mp4")):
                break
            time.sleep(0.05)
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        printed, error = process.communicate(timeout=60)
    assert process.returncode == 0, error
    assert "Traceback" not in error
    (listing,) = tmp_path.glob("camera-*.keypoints.json")
    (video,) = tmp_path.glob("camera-*.pose.mp4")
    assert len(list(tmp_path.iterdir())) == 2
    frames = len(json.loads(listing.read_text())["frames"])
    assert f"{frames} frames at" in printed
    with av.open(str(video)) as container:
        assert sum(1 for _ in container.decode(video=0)) == frames > 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_in_a_video(
    dot_model: Make, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    invoke = OnnxRunner.invoke

    def interrupted(runner: OnnxRunner) -> None:
        signal.raise_signal(number)
        invoke(runner)

    monkeypatch.setattr(OnnxRunner, "invoke", interrupted)
    before = signal.getsignal(number)
    assert run("predict", dot_model("dots"), folder / "clip.mkv", "--out", tmp_path / "out") == 128 + number
    assert signal.getsignal(number) == before
    assert len(json.loads((tmp_path / "out" / "clip.keypoints.json").read_text())["frames"]) == 1
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"clip.keypoints.json", "clip.pose.mp4"}


def test_a_camera_without_a_number_is_the_first() -> None:
    assert bare_camera(["predict", "m", "--camera"]) == ["predict", "m", "--camera", "0"]
    assert bare_camera(["--camera", "--out", "o"]) == ["--camera", "0", "--out", "o"]
    assert bare_camera([]) == []
    assert bare_camera(["--camera", "a.mp4"]) == ["--camera", "0", "a.mp4"]
    for given in (["--camera", "1"], ["--camera", "/dev/video2", "x"], ["--camera=3"], ["--cameras"]):
        assert bare_camera(given) == given


def test_what_does_not_go_together(
    dot_model: Make, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    predict = ("predict", dot_model("dots"))
    assert "nothing to predict" in fails(capsys, *predict)
    assert "--box and --boxes" in fails(capsys, *predict, folder, "--box", "1,2,3,4", "--boxes", "b.json")
    assert "leave out files" in fails(capsys, *predict, folder, "--camera")
    assert "belongs to --camera" in fails(capsys, *predict, folder, "--camera-size", "640x480")
    assert "--camera is 'front'" in fails(capsys, *predict, "--camera=front", "--out", tmp_path / "o")
    assert "/dev/video99 cannot be opened" in fails(capsys, *predict, "--camera", 99, "--out", tmp_path / "o")
    (tmp_path / "empty").mkdir()
    assert "holds no pictures and no videos" in fails(capsys, *predict, tmp_path / "empty")
    (tmp_path / "file").write_text("")
    assert "cannot create the folder" in fails(capsys, "predict", "none.onnx", folder, "--out", tmp_path / "file" / "o")
