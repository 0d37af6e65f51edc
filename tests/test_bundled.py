"""The checkpoint that ships: its artifacts decide as it does, on real people."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bihrnet_edge.cli import main
from bihrnet_edge.model.checkpoint import load_checkpoint

NAME = "bihrnet-small-lsp"
PEOPLE = 64


def run(arguments: list[str]) -> int:
    try:
        main(arguments)
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


@pytest.mark.slow
def test_artifacts_follow_the_checkpoint_on_real_people(shared_data: Path, tmp_path: Path) -> None:
    lspet = shared_data / "lspet"
    code = run([
        "export", NAME, "--target", "lce-arm64", "--target", "onnx", "--out", str(tmp_path),
        "--check-annotations", str(lspet / "person_keypoints_val.json"), "--check-images", str(lspet / "images"),
        "--check-limit", str(PEOPLE),
    ])  # fmt: skip
    assert code == 0
    report = json.loads((tmp_path / f"{NAME}.export.json").read_text())
    assert report["check"]["people"] == PEOPLE
    metrics = report["metrics"]
    for key in ("lce", "onnx"):
        agreement = report["artifacts"][key]["agreement"]
        assert agreement["heatmap_correlation_min"] >= 0.9999
        assert agreement["keypoints_within_quarter_pixel"] >= 0.99
        assert abs(metrics[key] - metrics["torch"]) <= 0.5
    # Clearly better than the best constant pose, which scores 6.35 on the whole split.
    assert metrics["torch"] > 10


def test_the_checkpoint_is_in_its_exact_form() -> None:
    checkpoint = load_checkpoint(NAME)
    assert checkpoint.config.integer_stem
    assert checkpoint.config.binary
