"""``calibrate`` and int8 ``export``, refused before anything is converted."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers import fails

from bihrnet_edge.calibration.ranges import Ranges, weights_sha256, write_ranges
from bihrnet_edge.calibration.subset import hash_images
from bihrnet_edge.model.checkpoint import load_checkpoint, random_checkpoint, save_checkpoint
from bihrnet_edge.model.config import ModelConfig
from bihrnet_edge.model.exact import make_exact
from bihrnet_edge.pose.keypoints import KeypointSet

DIGEST = "0" * 64


@pytest.fixture
def model(tmp_path: Path) -> Path:
    config = ModelConfig(width=8, modules=(1, 1, 1), blocks=1, bottlenecks=1, keypoints=3)
    names = KeypointSet("dots", ("right_shoulder", "left_hip", "left_wrist"))
    save_checkpoint(
        tmp_path / "tiny.pt", random_checkpoint(config, name="tiny", keypoints=names, input_size=(64, 32), seed=1)
    )
    return tmp_path / "tiny.pt"


def test_calibrate_refuses(model: Path, dot_people: Path, capsys: pytest.CaptureFixture[str]) -> None:
    people = ["--annotations", dot_people / "people.json", "--images", dot_people / "images"]
    out = dot_people / "ranges.json"

    def sentence(*options: object) -> str:
        return fails(capsys, "calibrate", model, *people, "--out", out, *options)

    assert "choose one of minmax, percentile, entropy, mse" in sentence("--observer", "average")
    few = "10 calibration people are too few for stable ranges; give 16 or more"
    assert few in sentence("--size", 10)
    fitted = dot_people / "fitted.pt"
    assert few in sentence("--size", 10, "--reestimate", fitted)
    assert "is the checkpoint that is read; give another file" in sentence("--size", 10, "--reestimate", model)
    assert "is where another result goes, too" in sentence("--size", 10, "--reestimate", out)
    assert "it is a folder; name a file" in sentence("--size", 10, "--reestimate", dot_people)
    exact = dot_people / "exact.pt"
    save_checkpoint(exact, make_exact(load_checkpoint(model)))
    arguments = ["--out", out, "--size", 10, "--reestimate", fitted]
    assert "in its exact form, where BatchNorm is folded" in fails(capsys, "calibrate", exact, *people, *arguments)
    assert not fitted.exists()
    assert "subset of 128 people cannot be drawn" in sentence()
    assert not out.exists()


def test_int8_export_refuses(model: Path, dot_people: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = dot_people / "ranges.json", dot_people / "out"

    def sentence(*options: object) -> str:
        return fails(capsys, "export", model, "--out", out, *options)

    assert "choose float, int8 or mixed" in sentence("--precision", "int4")
    assert "belong together" in sentence("--precision", "int8")
    assert "choose one of float32, float16, dynamic, int8" in sentence("--tflite-precision", "int4")
    assert "int8 needs --ranges" in sentence("--tflite-precision", "int8", "--target", "tflite")
    assert "float16 is of --target tflite; give that as well" in sentence("--tflite-precision", "float16")
    write_ranges(path, Ranges("tiny", DIGEST, "minmax", 16, "people.json", DIGEST, (), {"head": (-1.0, 1.0)}))
    assert "belong together" in sentence("--ranges", path)
    assert "belong together" in sentence("--ranges", path, "--target", "tflite", "--tflite-precision", "float16")
    sole = "is of --target lce-arm64; give that as well"
    assert f"mixed {sole}." in sentence("--precision", "mixed", "--ranges", path, "--target", "onnx")
    assert f"int8 {sole}; for --target tflite there is --tflite-precision int8" in sentence(
        "--precision", "int8", "--ranges", path, "--target", "tflite"
    )
    assert "which mixed needs; make them with calibrate --sweep 8" in sentence("--precision", "mixed", "--ranges", path)
    int8 = ["--precision", "int8", "--ranges", path]
    assert "calibrated with other weights (of 'tiny')" in sentence(*int8)
    assert "calibrated with other weights" in sentence("--target", "tflite", "--tflite-precision", *int8[1:])

    weights = weights_sha256(load_checkpoint(str(model)).state)
    used = tuple(hash_images(sorted((dot_people / "images").iterdir())[4:5]).values())
    write_ranges(path, Ranges("tiny", weights, "minmax", 16, "people.json", DIGEST, used, {"head": (-1.0, 1.0)}))
    check = ["--check-annotations", dot_people / "people.json", "--check-images", dot_people / "images"]
    assert "4.png has the same content as one that calibrated the ranges" in sentence(*int8, *check)
    assert not out.exists()
