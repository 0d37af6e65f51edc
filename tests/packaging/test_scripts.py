from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from helpers import load_script

PACKAGING = Path(__file__).resolve().parents[2] / "packaging"
SCRIPTS = sorted(path for path in PACKAGING.rglob("*.sh") if os.access(path, os.X_OK))


def run(script: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([script, *arguments], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_help_and_wrong_options(script: Path) -> None:
    done = run(script, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: packaging/")
    assert "\nexample: " in done.stdout
    done = run(script, "--nonsense")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"{script.name}: there is no option --nonsense; see --help.\n"


@pytest.mark.parametrize(
    ("script", "arguments"),
    [
        ("build_wheels.sh", ["out", "s390x"]),
        ("arm64/run.sh", ["nowhere", "python3"]),
        ("arm64/run.sh", ["nowhere"]),
        ("arm64/build_userland.sh", ["one", "two"]),
        ("arm64/test.sh", ["cache", "no.lce.tflite"]),
    ],
)
def test_mistakes_are_one_sentence(tmp_path: Path, script: str, arguments: list[str]) -> None:
    done = subprocess.run([PACKAGING / script, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert list(tmp_path.iterdir()) in ([], [tmp_path / "out"])


@pytest.fixture(scope="module")
def compare() -> ModuleType:
    return load_script(PACKAGING / "arm64" / "compare.py")


BENCH = {"results": [{"runtime": "litert", "delegate": "neon"}]}
PREDICTION = {"people": [{"keypoints": [{"name": "neck", "x": 1.0, "y": 2.0, "score": 0.5}]}]}
EVALUATION = {"metric": "PCK@0.2", "value": 26.88, "people": 8, "per_joint": {"neck": None}, "seconds": 3.0}


def test_equal_results(compare: ModuleType) -> None:
    slower = EVALUATION | {"seconds": 9.0}
    assert compare.differences(BENCH, [PREDICTION, PREDICTION], [EVALUATION, slower]) == []
    assert compare.differences(BENCH, [PREDICTION, PREDICTION], []) == []


def test_other_results(compare: ModuleType) -> None:
    def moved(key: str, by: float) -> Any:
        prediction = copy.deepcopy(PREDICTION)
        prediction["people"][0]["keypoints"][0][key] += by
        return prediction

    def sentences(bench: Any = BENCH, prediction: Any = PREDICTION, evaluation: Any = EVALUATION) -> str:
        return " ".join(compare.differences(bench, [PREDICTION, prediction], [EVALUATION, evaluation]))

    assert sentences() == ""
    assert "scalar" in sentences(bench={"results": [{"runtime": "litert", "delegate": "scalar"}]})
    assert "neck" in sentences(prediction=moved("x", 0.01))
    assert "neck" in sentences(prediction=moved("score", 0.001))
    assert "other joints" in sentences(prediction={"people": []})
    assert "eval" in sentences(evaluation=EVALUATION | {"value": 20.0})
    assert "people" in " ".join(compare.differences(BENCH, [PREDICTION] * 2, [EVALUATION | {"people": 0}] * 2))


VIDEO = {"frames": [{"frame": 0, "people": PREDICTION["people"]}, {"frame": 1, "people": PREDICTION["people"]}]}


def test_a_video_has_its_frames_and_joints(compare: ModuleType) -> None:
    assert compare.video_differences(VIDEO, PREDICTION, 2) == []
    assert "2 frames of the video, not 3" in compare.video_differences(VIDEO, PREDICTION, 3)[0]
    for people in ([], [{"keypoints": []}]):
        broken = {"frames": [VIDEO["frames"][0], {"frame": 1, "people": people}]}
        (sentence,) = compare.video_differences(broken, PREDICTION, 2)
        assert "frame 1" in sentence


SERVER = """
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer(b"<html></html>")
    def do_POST(self):
        assert self.path == "/predict?box=1,2,3,4" and self.rfile.read(7) == b"picture"
        self.answer(sys.argv[1].encode())
    def answer(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

with HTTPServer(("127.0.0.1", 0), Handler) as server:
    print(f"http://127.0.0.1:{server.server_port} (Ctrl-C ends it)", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass
"""


def test_the_demo_is_tried(tmp_path: Path) -> None:
    """A server that answers as the demo does, right and wrong; packaging/arm64/test.sh tries the real one."""
    script = load_script(PACKAGING / "arm64" / "try_demo.py")
    people = [{"box": [1, 2, 3, 4], "keypoints": PREDICTION["people"][0]["keypoints"]}]
    (tmp_path / "picture").write_bytes(b"picture")
    (tmp_path / "demo.py").write_text(SERVER)
    command = [sys.executable, str(tmp_path / "demo.py"), json.dumps({"results": [{"person": people[0]}]})]
    assert script.problems(command, tmp_path / "picture", people) == []
    other = [people[0] | {"keypoints": []}]
    assert script.problems(command, tmp_path / "picture", other) == ["the demo found other joints than predict"]
    (sentence,) = script.problems([sys.executable, "-c", "print('oh')"], tmp_path / "picture", people)
    assert "no address" in sentence
