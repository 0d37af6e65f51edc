"""The checkpoint that ships: its artifacts decide as it does, on real people."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers import run

from bihrnet_edge.model.checkpoint import load_checkpoint

NAME = "bihrnet-small-lsp"
PEOPLE = 24


@pytest.fixture(scope="module")
def exported(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The artifacts and their report."""
    out = tmp_path_factory.mktemp("out")
    lspet = shared_data / "lspet"
    code = run(
        "export", NAME, "--target", "lce-arm64", "--target", "onnx", "--out", str(out),
        "--check-annotations", str(lspet / "person_keypoints_val.json"), "--check-images", str(lspet / "images"),
        "--check-limit", str(PEOPLE),
    )  # fmt: skip
    assert code == 0
    return out


@pytest.mark.slow
def test_artifacts_follow_the_checkpoint_on_real_people(exported: Path) -> None:
    report = json.loads((exported / f"{NAME}.export.json").read_text())
    assert report["check"]["people"] == PEOPLE
    metrics = report["metrics"]
    for key in ("lce", "onnx"):
        agreement = report["artifacts"][key]["agreement"]
        assert agreement["heatmap_correlation_min"] >= 0.9999
        assert agreement["keypoints_within_quarter_pixel"] >= 0.99
        assert abs(metrics[key] - metrics["torch"]) <= 0.5
    # Clearly better than the best constant pose, which scores 6.35 on the whole split.
    assert metrics["torch"] > 25


@pytest.mark.slow
@pytest.mark.parametrize(
    ("annotations", "images", "size", "joints"),
    [
        ("lspet/person_keypoints_val.json", "lspet/images", PEOPLE, 14),
        ("coco_mini/annotations/person_keypoints_val2017.json", "coco_mini/val2017", PEOPLE, 12),
        ("mpii_sample/test_mpii.json", "mpii_sample", 5, 13),
    ],
    ids=["lspet", "coco_mini", "mpii_sample"],
)
def test_check_passes_on_three_sets_of_joints(
    annotations: str, images: str, size: int, joints: int, exported: Path, shared_data: Path, tmp_path: Path
) -> None:
    """Torch, LCE's artifact (in the native delegate where it is built) and ONNX Runtime."""
    file, html = tmp_path / "check.json", tmp_path / "check.html"
    code = run(
        "check", NAME, str(exported / f"{NAME}.lce.tflite"), str(exported / f"{NAME}.onnx"), "--size", str(size),
        "--annotations", str(shared_data / annotations), "--images", str(shared_data / images),
        "--json", str(file), "--report", str(html),
    )  # fmt: skip
    assert code == 0
    result = json.loads(file.read_text())
    assert result["reference"]["runtime"] == "torch"
    assert (result["people"], len(result["joints"]["compared"])) == (size, joints)
    for artifact in result["artifacts"]:
        assert artifact["drop"]["low"] <= 0 <= artifact["drop"]["high"]
        assert artifact["keypoints"]["within_quarter_heatmap_pixel"] >= 0.99
    assert "within the limit" in html.read_text()


def test_the_checkpoint_is_in_its_exact_form() -> None:
    checkpoint = load_checkpoint(NAME)
    assert checkpoint.config.integer_stem
    assert checkpoint.config.binary
