"""The demo's server as a browser, and as a stranger, meets it."""

from __future__ import annotations

import base64
import io
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np
import pytest
from PIL import Image

from bihrnet_edge.errors import UserError
from bihrnet_edge.pose.heatmaps import decode
from bihrnet_edge.runtimes.demo.models import DemoModels
from bihrnet_edge.runtimes.demo.server import MAX_BYTES, DemoServer


def ask(
    server: DemoServer, method: str, path: str, body: bytes | None = None, **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body; ``headers`` with underscores for hyphens."""
    connection = HTTPConnection("127.0.0.1", server.server_address[1], timeout=10)
    try:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()


def refused(answer: tuple[int, dict[str, str], bytes]) -> tuple[int, str]:
    """Status and the one sentence of an error."""
    status, _, body = answer
    sentence = json.loads(body)["error"]
    assert sentence.endswith(".")
    assert "\n" not in sentence
    assert "Traceback" not in sentence
    return status, sentence


def test_joints_equal_those_of_predict(server: DemoServer, picture: Path, predicted: Callable[..., list[Any]]) -> None:
    for box, query in ((None, ""), ((20.0, 30.0, 60.5, 100.0), "?box=20,30,60.5,100")):
        status, _, body = ask(server, "POST", f"/predict{query}", picture.read_bytes())
        assert status == 200
        answer = json.loads(body)
        assert (answer["width"], answer["height"]) == (120, 180)  # upright
        assert [result["person"] for result in answer["results"]] == predicted(box)
        for result in answer["results"]:
            assert 0 < result["network_ms"] <= result["total_ms"]


def test_heatmaps_lie_where_the_joints_are(server: DemoServer, picture: Path) -> None:
    """Their peaks, decoded and placed by ``region``, are the joints, but for the rounding to a byte."""
    answer = json.loads(ask(server, "POST", "/predict?box=20,30,60,100", picture.read_bytes())[2])
    for result in answer["results"]:
        packed = result["heatmaps"]
        shape = packed["joints"], packed["height"], packed["width"]
        values = np.frombuffer(base64.b64decode(packed["bytes"]), np.uint8).reshape(shape)
        assert values.max() == 255
        points, scores = decode(values[None].astype(np.float32))
        left, top, width, height = packed["region"]
        scale = np.array([width / shape[2], height / shape[1]])
        placed = np.array([left, top]) + (points[0] + 0.5) * scale - 0.5
        joints = np.array([[p["x"], p["y"]] for p in result["person"]["keypoints"]])
        assert np.abs(placed - joints).max() <= 0.5 * scale.max() + 0.01  # a quarter's sign may be lost to rounding
        expected = [p["score"] for p in result["person"]["keypoints"]]
        np.testing.assert_allclose(scores[0] * packed["peak"] / 255, expected, atol=packed["peak"] / 255)


def test_models_are_described(server: DemoServer, models: list[str]) -> None:
    status, headers, body = ask(server, "GET", "/models")
    assert status == 200
    assert headers["Content-Type"] == "application/json"
    described = json.loads(body)["models"]
    assert [model["file"] for model in described] == [Path(model).name for model in models]
    assert [model["runtime"] for model in described] == ["litert", "onnxruntime"]
    assert [joint["name"] for joint in described[0]["joints"]] == ["shoulder", "elbow", "wrist"]
    assert [(limb["from"], limb["to"]) for limb in described[0]["limbs"]] == [(0, 1), (1, 2)]


def test_the_page_is_whole_and_asks_nothing_of_the_network(server: DemoServer) -> None:
    texts = []
    for path, kind in (("/", "text/html"), ("/demo.css", "text/css"), ("/demo.js", "text/javascript"),
                       ("/picture.js", "text/javascript")):  # fmt: skip
        status, headers, body = ask(server, "GET", path)
        assert (status, headers["Content-Type"]) == (200, f"{kind}; charset=utf-8")
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        texts.append(body.decode())
    assert not [text for text in texts if "http:" in text or "https:" in text or "url(" in text]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "rebound.example"}, 421),
        ({"Host": "rebound.example:{port}"}, 421),
        ({"Host": "127.0.0.1:1"}, 421),
        ({"Host": "127.0.0.1:{port}", "Origin": "http://rebound.example:{port}"}, 403),
        ({"Host": "127.0.0.1:{port}", "Origin": "null"}, 403),
        ({"Host": "localhost:{port}", "Origin": "http://localhost:1"}, 403),
    ],
)
def test_other_sites_are_kept_out(server: DemoServer, headers: dict[str, str], status: int, picture: Path) -> None:
    port = str(server.server_address[1])
    given = {name: value.replace("{port}", port) for name, value in headers.items()}
    for method, path, body in (
        ("GET", "/", None),
        ("GET", "/models", None),
        ("POST", "/predict", picture.read_bytes()),
    ):
        assert refused(ask(server, method, path, body, **given))[0] == status


def test_both_names_of_this_machine_are_answered(server: DemoServer, picture: Path) -> None:
    for name in ("127.0.0.1", "localhost", "LOCALHOST"):
        host = f"{name}:{server.server_address[1]}"
        assert ask(server, "POST", "/predict", picture.read_bytes(), Host=host, Origin=f"http://{host}")[0] == 200


def test_listens_on_the_loopback_address_only(server: DemoServer) -> None:
    assert server.socket.getsockname()[0] == "127.0.0.1"


def test_an_upload_too_large_is_refused_before_it_is_read(server: DemoServer) -> None:
    for length in (str(MAX_BYTES + 1), "9" * 5000):
        with socket.create_connection(server.server_address[:2], timeout=10) as connection:
            head = f"POST /predict HTTP/1.1\r\nHost: 127.0.0.1:{server.server_address[1]}\r\nContent-Length: {length}"
            connection.sendall(f"{head}\r\n\r\n".encode())
            answer = connection.makefile("rb").read()
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert b"larger than 32 MiB" in answer


@pytest.mark.parametrize("length", [None, "", "-1", "0x10", "1e3", "²"])
def test_a_length_is_needed(server: DemoServer, length: str | None) -> None:
    with socket.create_connection(server.server_address[:2], timeout=10) as connection:
        head = f"POST /predict HTTP/1.1\r\nHost: localhost:{server.server_address[1]}\r\n"
        head += "Transfer-Encoding: chunked\r\n" if length is None else f"Content-Length: {length}\r\n"
        connection.sendall(f"{head}\r\n5\r\nhello\r\n0\r\n\r\n".encode())
        assert connection.makefile("rb").read().startswith(b"HTTP/1.1 411 ")


def test_bad_pictures_are_one_sentence(server: DemoServer, picture: Path) -> None:
    data = picture.read_bytes()
    bomb = io.BytesIO()
    Image.new("1", (30_000, 30_000)).save(bomb, "PNG")
    tiff = io.BytesIO()
    Image.new("RGB", (4, 4)).save(tiff, "TIFF")  # of a format that the page does not take
    for body, word in (
        (b"", "no image"), (b"hello", "no image"), (data[:200], "truncated"), (tiff.getvalue(), "no image"),
        (bomb.getvalue(), "pixels"),
    ):  # fmt: skip
        status, sentence = refused(ask(server, "POST", "/predict", body))
        assert status == 400
        assert word in sentence
    large = io.BytesIO()
    Image.new("1", (10_000, 6_000)).save(large, "PNG")
    assert "more than 50 million" in refused(ask(server, "POST", "/predict", large.getvalue()))[1]
    for query in ("box=1,2,3", "box=0,0,0,5", "box=nan,0,1,1", "&".join(["box=1,1,2,2"] * 9)):
        assert refused(ask(server, "POST", f"/predict?{query}", data))[0] == 400
    for method, path in (("GET", "/../secret"), ("GET", "/page/index.html"), ("POST", "/"), ("POST", "/models")):
        assert refused(ask(server, method, path, data if method == "POST" else None))[0] == 404


def test_pictures_at_once_get_their_own_answers(server: DemoServer, tmp_path: Path) -> None:
    """And one too many is told so, instead of taking memory."""
    rng = np.random.default_rng(0)
    bodies = []
    for index in range(3):
        Image.fromarray(rng.integers(0, 255, (60, 40, 3), np.uint8)).save(tmp_path / f"{index}.png")
        bodies.append((tmp_path / f"{index}.png").read_bytes())
    alone = [json.loads(ask(server, "POST", "/predict", body)[2]) for body in bodies]

    def people(answer: Any) -> Any:
        return [result["person"] for result in answer["results"]]

    with ThreadPoolExecutor(3) as pool:
        for _ in range(5):
            together = list(pool.map(lambda body: json.loads(ask(server, "POST", "/predict", body)[2]), bodies))
            assert [people(answer) for answer in together] == [people(answer) for answer in alone]
    for _ in range(3):
        assert server.places.acquire(blocking=False)
    try:
        assert refused(ask(server, "POST", "/predict", bodies[0]))[0] == 503
    finally:
        server.places.release(3)


def test_who_goes_away_in_the_middle_gives_the_place_back(
    server: DemoServer, picture: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for _ in range(5):
        with socket.create_connection(server.server_address[:2], timeout=10) as connection:
            head = f"POST /predict HTTP/1.1\r\nHost: 127.0.0.1:{server.server_address[1]}\r\nContent-Length: 5000"
            connection.sendall(f"{head}\r\n\r\nhello".encode())
            connection.shutdown(socket.SHUT_WR)
            assert connection.makefile("rb").read() == b""
    assert ask(server, "POST", "/predict", picture.read_bytes())[0] == 200
    assert "Traceback" not in capfd.readouterr().err


def test_a_failure_of_ours_is_a_sentence_too(
    models: list[str], picture: Path, monkeypatch: pytest.MonkeyPatch, server: DemoServer
) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(server, "handle_error", lambda *_: seen.append(sys.exc_info()[0]))
    monkeypatch.setattr(server.models, "predict", lambda *_: {}["joint"])
    status, sentence = refused(ask(server, "POST", "/predict", picture.read_bytes()))
    assert (status, seen) == (500, [KeyError])
    assert "terminal" in sentence


def test_a_port_that_is_taken(server: DemoServer) -> None:
    port = server.server_address[1]
    with pytest.raises(UserError, match=rf"cannot listen on 127\.0\.0\.1:{port} .*--port"):
        DemoServer(server.models, port)


def test_a_model_that_cannot_be_opened_closes_the_others(models: list[str], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="none"):
        DemoModels([models[0], str(tmp_path / "none.onnx")])


def test_closed_models_say_so(models: list[str], picture: Path) -> None:
    opened = DemoModels(models[:1])
    opened.close()
    with pytest.raises(UserError, match="closing"):
        opened.predict(picture.read_bytes())


def test_the_command_serves_until_ctrl_c(models: list[str]) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "bihrnet_edge", "demo", *models, "--port", "0", "--no-browser"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    url = process.stdout.readline().partition(" ")[0]
    try:
        with urlopen(url, timeout=10) as answer:
            assert b"<h1>Pose demo</h1>" in answer.read()
    finally:
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "the demo has ended" in errors
    assert "Traceback" not in errors
