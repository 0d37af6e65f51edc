from __future__ import annotations

import copy
import os
import subprocess
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
