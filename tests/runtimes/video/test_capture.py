from __future__ import annotations

import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bihrnet_edge.errors import SourceError, UserError
from bihrnet_edge.runtimes.video.capture import Capture, Frame, open_camera, open_video

Make = Callable[..., Path]
Noise = Callable[..., list[NDArray[np.uint8]]]
LENS = Path("testsrc=size=96x64:rate=25")  # FFmpeg's own pictures, through the interface that cameras have


def frames_of(path: Path) -> tuple[list[Frame], str | None]:
    with open_video(path) as source:
        return list(source.frames()), source.problem


def test_frames_are_the_pictures_at_their_times(make_video: Make, noise: Noise) -> None:
    pictures = noise(7)
    path = make_video(pictures)
    with open_video(path) as source:
        frames = list(source.frames())
        assert (source.count, source.rate, source.live, source.problem) == (7, 30, False, None)
        assert str(path) in source.name
    assert [frame.index for frame in frames] == list(range(7))
    assert [frame.time for frame in frames] == [Fraction(index, 30) for index in range(7)]
    for frame, picture in zip(frames, pictures, strict=True):
        assert frame.image.dtype == np.uint8
        assert np.abs(frame.image.astype(int) - picture).mean() < 3


#: Display matrices of ISO 14496-12, 6.2.2, by how many quarters they turn clockwise.
MATRICES = {
    1: (0, 1, 0, -1, 0, 0, 0, 0, 1),
    2: (-1, 0, 0, 0, -1, 0, 0, 0, 1),
    3: (0, -1, 0, 1, 0, 0, 0, 0, 1),
}


@pytest.mark.parametrize("quarters", MATRICES)
def test_a_video_that_lies_is_put_upright(make_video: Make, noise: Noise, quarters: int, tmp_path: Path) -> None:
    pictures = noise(3)
    data = bytearray(make_video(pictures).read_bytes())
    matrix = data.index(b"tkhd") + 4 + 40  # behind version, times, track, duration, layer, volume
    assert struct.unpack_from(">9i", data, matrix) == (1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    ones = [1 << 16] * 8 + [1 << 30]
    struct.pack_into(">9i", data, matrix, *(a * b for a, b in zip(MATRICES[quarters], ones, strict=True)))
    turned = tmp_path / "phone.mp4"
    turned.write_bytes(data)
    frames, problem = frames_of(turned)
    assert problem is None
    for frame, picture in zip(frames, pictures, strict=True):
        expected = np.rot90(picture, -quarters)
        assert frame.image.shape == expected.shape
        assert np.abs(frame.image.astype(int) - expected).mean() < 3


@pytest.mark.parametrize("form", ["yuvj420p", "yuvj422p"])
def test_colours_of_a_webcam(tmp_path: Path, form: str) -> None:
    """Most send JPEG pictures, whose brightness goes from 0 to 255 and not from 16 to 235."""
    av = pytest.importorskip("av")
    colours = np.array([(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (90, 160, 30)], np.uint8)
    with av.open(str(tmp_path / "webcam.avi"), "w") as container:
        stream = container.add_stream("mjpeg", rate=10, options={"qmin": "1", "qmax": "1"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, form
        for colour in colours:
            picture = np.broadcast_to(colour, (48, 64, 3)).copy()
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(
                format=form, dst_colorspace=6, dst_color_range=2
            )
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    frames, problem = frames_of(tmp_path / "webcam.avi")
    assert problem is None
    assert np.abs(np.stack([frame.image for frame in frames]).astype(int) - colours[:, None, None]).max() <= 4


@pytest.mark.parametrize(
    ("name", "options"), [("c.mp4", {"faststart": True}), ("c.mkv", {}), ("c.ts", {}), ("c.avi", {})]
)
@pytest.mark.parametrize("kept", [0.3, 0.7])
def test_what_was_cut_off_gives_what_decodes_and_says_so(
    make_video: Make, noise: Noise, name: str, options: dict[str, Any], kept: float, tmp_path: Path
) -> None:
    path = make_video(noise(60), name, rate=10, **options)
    whole, problem = frames_of(path)
    assert (len(whole), problem) == (60, None)
    data = path.read_bytes()
    cut = tmp_path / name
    cut.write_bytes(data[: int(len(data) * kept)])
    frames, problem = frames_of(cut)
    # A stream for broadcasting has no index, and so nothing says how long it was.
    assert problem is not None or name == "c.ts"
    assert problem is None or str(cut) in problem
    assert 60 * kept - 8 < len(frames) <= 60 * kept + 2
    for frame, other in zip(frames[:-2], whole, strict=False):  # the last may be what is left of one
        assert frame.time == other.time
        assert np.array_equal(frame.image, other.image)


def test_a_video_may_not_change_its_size(make_video: Make, noise: Noise, tmp_path: Path) -> None:
    both = tmp_path / "both.ts"
    both.write_bytes(make_video(noise(6), "a.ts").read_bytes() + make_video(noise(6, 96, 128), "b.ts").read_bytes())
    frames, problem = frames_of(both)
    assert {frame.image.shape for frame in frames} == {(64, 96, 3)}
    assert problem is not None
    assert "from 96x64 to 128x96" in problem


def test_what_is_no_video(make_video: Make, noise: Noise, tmp_path: Path) -> None:
    for name, data in (("text.mp4", b"no video" * 50), ("empty.mkv", b""), ("no-index.mp4", None)):
        path = tmp_path / name
        whole = make_video(noise(9)).read_bytes()
        path.write_bytes(whole[: len(whole) // 2] if data is None else data)
        with pytest.raises(SourceError, match=name):
            open_video(path)
    with pytest.raises(SourceError, match="holds no pictures"):
        open_video(make_video([], "sound.mp4", audio=True))
    with pytest.raises(SourceError, match="does not exist"):
        open_video(tmp_path / "none.mp4")
    with pytest.raises(SourceError, match="does not exist"):
        open_video(tmp_path)


def test_a_camera_gives_pictures(make_video: Make) -> None:
    with Capture(LENS, "camera", "lavfi") as camera:
        assert (camera.live, camera.rate, camera.count) == (True, 25, None)
        frames = camera.frames()
        first, second = next(frames), next(frames)
    assert first.image.shape == (64, 96, 3)
    assert second.time - first.time == Fraction(1, 25)


def test_cameras_that_are_not_there(make_video: Make, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"/dev/video987 cannot be opened \(No such file.*this machine has"):
        open_camera(Path("/dev/video987"))
    for path in (Path("/dev/null"), tmp_path / "file"):
        (tmp_path / "file").touch()
        with pytest.raises(SourceError, match=f"camera {path} cannot be opened"):
            open_camera(path, "640x480")


def test_without_the_package_av(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").touch()
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(UserError, match=r'needs av, which is not installed; run: pip install "bihrnet-edge\[video\]"'):
        open_video(tmp_path / "clip.mp4")
