"""``eval`` and ``check`` as a person runs them, with real models that find dots; and with broken input."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import fails, run
from PIL import Image

from bihrnet_edge.data.results import read_results

Model = Callable[..., Path]


def data(folder: Path) -> tuple[object, ...]:
    return "--annotations", folder / "people.json", "--images", folder / "images"


def edit(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the annotation file."""
    document = json.loads((folder / "people.json").read_text())
    change(document)
    (folder / "people.json").write_text(json.dumps(document))


def write_boxes(folder: Path, *more: dict[str, Any]) -> Path:
    """The annotated boxes as a detector's, and ``more``."""
    document = json.loads((folder / "people.json").read_text())
    boxes = [
        {"image_id": a["image_id"], "category_id": 1, "bbox": a["bbox"], "score": 0.5 + a["id"] / 1000}
        for a in document["annotations"]
    ]
    (folder / "boxes.json").write_text(json.dumps([*boxes, *more]))
    return folder / "boxes.json"


def evaluated(folder: Path, model: Path, *options: object) -> dict[str, Any]:
    """What ``eval --json`` writes."""
    assert run("eval", model, *data(folder), "--json", folder / "result.json", *options) == 0
    result: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return result


def test_eval_prints_what_it_measured(dot_model: Model, dot_people: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = evaluated(dot_people, dot_model("good"))
    printed = capsys.readouterr().out
    assert (result["metric"], result["value"], result["people"]) == ("PCK@0.2", 100.0, 10)
    assert result["joints"]["compared"] == ["right_shoulder", "left_hip", "left_wrist"]
    assert result["oks"]["ap50"] == 100
    assert (result["runtime"], result["boxes"], result["decoding"]) == ("onnxruntime", "ground truth", "quarter")
    assert "10 people, onnxruntime" in printed
    assert "joints compared (3): right_shoulder, left_hip, left_wrist" in printed
    for name in ("PCK@0.2", "OKS AP50", "OKS AR"):
        assert name in printed
    assert "by joint" not in printed
    evaluated(dot_people, dot_model("good"), "--per-joint")
    assert "PCK@0.2 by joint" in capsys.readouterr().out


@pytest.mark.parametrize("options", [("--workers", 0), ("--workers", 3, "--batch", 1), ("--threads", 1, "--batch", 64)])
def test_workers_and_batch_change_no_figure(dot_model: Model, dot_people: Path, options: tuple[object, ...]) -> None:
    one, other = evaluated(dot_people, dot_model("good")), evaluated(dot_people, dot_model("good"), *options)
    assert {**one, "seconds": 0} == {**other, "seconds": 0}


def test_flip_test_decoding_and_limit(dot_model: Model, dot_people: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = evaluated(dot_people, dot_model("good"), "--flip-test", "--decoding", "dark", "--limit", 4)
    assert (result["flip_test"], result["decoding"], result["people"]) == (True, "dark", 4)
    assert "flip test, DARK" in capsys.readouterr().out
    assert "choose quarter or dark" in fails(capsys, "eval", "x.onnx", *data(dot_people), "--decoding", "peak")


def test_joints_are_matched_by_name(dot_model: Model, dot_people: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = dot_model("other-joints", ("left_wrist", "nose", "left_hip"), (2, 0, 1))
    result = evaluated(dot_people, model, "--per-joint")
    assert result["per_joint"] == {"left_hip": 100.0, "left_wrist": 100.0}
    printed = capsys.readouterr().out
    assert "joints compared (2): left_hip, left_wrist" in printed
    assert "joints that the data set lacks (1): nose" in printed
    assert "joints that the model lacks (1): right_shoulder" in printed
    alien = dot_model("alien", ("antenna", "tail", "wing"))
    assert "no name in common" in fails(capsys, "eval", alien, *data(dot_people))


def test_predictions_are_cocos_results(dot_model: Model, dot_people: Path) -> None:
    model, file = dot_model("two", ("left_wrist", "right_shoulder"), (2, 0)), dot_people / "new" / "p.json"
    evaluated(dot_people, model, "--save-predictions", file)
    results, skipped = read_results(file, 3)
    assert len(results) == 10
    assert not skipped.counts
    truth = json.loads((dot_people / "people.json").read_text())["annotations"]
    for annotation, image, points in zip(truth, results.image_ids, results.keypoints, strict=True):
        wanted = np.array(annotation["keypoints"]).reshape(3, 3)
        assert annotation["image_id"] == image
        assert abs(points[[0, 2], :2] - wanted[[0, 2], :2]).max() < 4
        assert not points[1].any()


def test_detector_boxes(dot_model: Model, dot_people: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Doubles are suppressed; odd boxes are counted and named."""
    x, y, width, height = json.loads((dot_people / "people.json").read_text())["annotations"][0]["bbox"]
    boxes = write_boxes(
        dot_people,
        {"image_id": 1, "category_id": 1, "bbox": [x, y, width, height + 1], "score": 0.2},
        {"image_id": 1, "category_id": 3, "bbox": [30, 30, 120, 120], "score": 0.2},
        {"image_id": 2, "category_id": 1, "bbox": [30, 30, 0, 120], "score": 0.2},
        {"image_id": 77, "category_id": 1, "bbox": [30, 30, 9, 9], "score": 0.2},
        {"image_id": 2, "category_id": 1, "bbox": [30, float("nan"), 9, 9], "score": 0.2},
    )
    result = evaluated(dot_people, dot_model("good"), "--boxes", boxes, "--save-predictions", dot_people / "p.json")
    assert (result["metric"], result["boxes"], result["people"]) == ("OKS AP", "detector", 11)
    assert result["value"] == result["oks"]["ap"] > 50
    assert result["suppressed"] == 1
    assert result["skipped"] == {
        "detection: not a person": 1, "detection: box without area": 1, "detection: malformed box": 1,
        "detection: image not in the annotation file": 1,
    }  # fmt: skip
    printed = capsys.readouterr().out
    assert "skipped: 1 detection: not a person (detection 11)" in printed
    assert "suppressed by OKS-NMS: 1" in printed
    assert len(json.loads((dot_people / "p.json").read_text())) == 10
    (dot_people / "none.json").write_text("[]")
    arguments = ("eval", dot_model("good"), *data(dot_people), "--boxes")
    assert "no usable box" in fails(capsys, *arguments, dot_people / "none.json")
    assert "cannot be read" in fails(capsys, *arguments, dot_people / "absent.json")


def test_without_cocos_library_there_is_pck_alone(
    dot_model: Model, dot_people: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a device that only runs artifacts."""
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    result = evaluated(dot_people, dot_model("good"))
    assert (result["value"], result["oks"]) == (100.0, None)
    assert "no OKS: faster-coco-eval is not installed; install it with: pip install" in capsys.readouterr().out
    boxes = write_boxes(dot_people)
    assert "faster-coco-eval" in fails(capsys, "eval", dot_model("good"), *data(dot_people), "--boxes", boxes)


def test_predictions_that_cannot_be_written_are_known_before_the_run(
    dot_model: Model, dot_people: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = dot_people / "people.json" / "p.json"
    assert "people.json" in fails(
        capsys, "eval", dot_model("good"), *data(dot_people), "--save-predictions", file, "--resume", dot_people / "r"
    )
    assert not (dot_people / "r").exists()


def test_resume(dot_model: Model, dot_people: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run stopped by a damaged picture goes on where it was; another model is refused."""
    picture = dot_people / "images" / "7.png"
    good = picture.read_bytes()
    picture.write_bytes(b"x" * len(good))
    file = dot_people / "partial.npz"
    arguments = ("eval", dot_model("good"), *data(dot_people), "--resume", file, "--batch", 2, "--workers", 1)
    assert "7.png" in fails(capsys, *arguments)
    assert file.exists()
    picture.write_bytes(good)
    result = evaluated(dot_people, dot_model("good"), "--resume", file)
    whole = evaluated(dot_people, dot_model("good"))
    assert {**result, "seconds": 0} == {**whole, "seconds": 0}
    other = dot_model("good-too", colours=(0, 2, 1))
    assert "begun with another model" in fails(capsys, "eval", other, *data(dot_people), "--resume", file)
    file.write_bytes(b"nothing")
    assert "--resume" in fails(capsys, *arguments)


def test_odd_people_are_counted_and_named(
    dot_model: Model, dot_people: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each kind of broken annotation costs one person, and the report says which."""

    def change(document: dict[str, Any]) -> None:
        people = document["annotations"]
        people[1]["bbox"][2] = 0
        people[2]["keypoints"][0] = 900.0
        people[3]["keypoints"][4] = float("nan")
        people[4]["id"] = people[0]["id"]
        people[5]["category_id"] = 9
        people[6]["iscrowd"] = 1

    edit(dot_people, change)
    result = evaluated(dot_people, dot_model("good"))
    assert result["people"] == 5
    assert result["skipped"] == {
        "box without area": 1, "malformed keypoints": 1, "duplicate annotation id": 1,
        "category without keypoints": 1, "crowd": 1,
    }  # fmt: skip
    assert result["notes"] == {"people with a joint outside the image": 1}
    assert result["examples"]["box without area"] == ["annotation 101"]
    printed = capsys.readouterr().out
    assert "skipped: 1 duplicate annotation id (annotation 100)" in printed
    assert "note: 1 people with a joint outside the image (annotation 102)" in printed


def test_missing_images(dot_model: Model, dot_people: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (dot_people / "images" / "3.png").unlink()
    assert "3.png" in fails(capsys, "eval", dot_model("good"), *data(dot_people))
    result = evaluated(dot_people, dot_model("good"), "--skip-missing")
    assert (result["people"], result["skipped"]) == (9, {"image file missing": 1})
    assert result["oks"]["people"] == 9
    assert "skipped: 1 image file missing (3.png)" in capsys.readouterr().out
    assert "does not exist" in fails(capsys, "eval", dot_model("good"), "--annotations", dot_people / "people.json",
                                     "--images", dot_people / "nowhere")  # fmt: skip


@pytest.mark.parametrize("command", ["eval", "check"])
def test_empty_sets_and_no_json(
    command: str, dot_model: Model, dot_people: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models = [dot_model("good")] * (2 if command == "check" else 1)
    edit(dot_people, lambda document: document["annotations"].clear())
    assert "no usable person" in fails(capsys, command, *models, *data(dot_people))
    (dot_people / "people.json").write_text('{"annotations": [')
    assert "people.json" in fails(capsys, command, *models, *data(dot_people))


def check(folder: Path, *arguments: object) -> dict[str, Any]:
    """What ``check --json`` writes."""
    assert run("check", *arguments, *data(folder), "--json", folder / "check.json") == 0
    result: dict[str, Any] = json.loads((folder / "check.json").read_text())
    return result


def test_check_passes_an_equal_artifact(dot_model: Model, dot_people: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = dot_people / "new" / "report.html"
    result = check(dot_people, dot_model("good"), dot_model("same"), "--report", file, "--per-joint")
    (artifact,) = result["artifacts"]
    assert (artifact["passed"], artifact["reference"], artifact["artifact"]) == (True, 100.0, 100.0)
    assert artifact["drop"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert artifact["per_joint"]["left_hip"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert artifact["keypoints"]["within_quarter_heatmap_pixel"] == 1.0
    assert (result["joints"]["left_out"], result["people"], result["subset"]) == ([], 10, None)
    assert set(result["oks_ap"]) == {"good.onnx", "same.onnx"}
    printed = capsys.readouterr().out
    assert "same.onnx (onnxruntime)" in printed
    assert "+0.00 to +0.00" in printed
    html = file.read_text()
    assert "Every artifact stays within the limit" in html
    assert "left_wrist" in html


def test_check_stops_a_worse_artifact(dot_model: Model, dot_people: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two joints changed places: exit code 3, and the report and the JSON are written all the same."""
    bad, file = dot_model("bad", colours=(0, 2, 1)), dot_people / "report.html"
    arguments = ("check", dot_model("good"), dot_model("same"), bad, *data(dot_people), "--report", file)
    sentence = fails(capsys, *arguments, "--json", dot_people / "check.json", code=3)
    assert "bad.onnx loses 66.67 points of PCK@0.2 (95 % interval 66.67 to 66.67), more than 1" in sentence
    assert "same.onnx" not in sentence
    result = json.loads((dot_people / "check.json").read_text())
    assert [artifact["passed"] for artifact in result["artifacts"]] == [True, False]
    html = file.read_text()
    assert "1 artifact loses more than the limit" in html
    assert html.count("<img") == 20  # ten images, reference beside artifact
    assert run(*arguments, "--max-drop", 70) == 0


def test_check_on_a_held_out_subset(dot_model: Model, dot_people: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models, manifest = (dot_model("good"), dot_model("same")), dot_people / "subset.json"
    drawn = check(dot_people, *models, "--size", 6, "--seed", 3, "--write-subset", manifest)
    assert drawn["people"] == 6
    assert drawn["subset"] == f"6 people drawn with seed 3, {manifest}"
    assert drawn["oks_ap"] == {}  # whoever was not drawn would count as missed
    again = check(dot_people, *models, "--subset", manifest)
    assert again["subset"] == str(manifest)
    assert again["artifacts"][0]["drop"] == drawn["artifacts"][0]["drop"]
    base = ("check", *models, *data(dot_people))
    used = dot_people / "calibration"
    used.mkdir()
    Image.new("RGB", (4, 4)).save(used / "harmless.png")
    assert run(*base, "--subset", manifest, "--calibration", used) == 0
    for i in range(10):
        (used / f"renamed{i}.png").write_bytes((dot_people / "images" / f"{i}.png").read_bytes())
    for choice in (("--subset", manifest), ("--size", 6)):
        assert "same content" in fails(capsys, *base, *choice, "--calibration", used)
    assert "give one of the two" in fails(capsys, *base, "--subset", manifest, "--size", 2)
    assert "--size" in fails(capsys, *base, "--write-subset", manifest)
    assert "--subset or --size" in fails(capsys, *base, "--calibration", used)
    assert "cannot be drawn" in fails(capsys, *base, "--size", 11)
    assert "cannot be read" in fails(capsys, *base, "--subset", dot_people / "none.json")


def test_check_names_what_is_wrong(dot_model: Model, dot_people: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = dot_model("good")
    assert "none.onnx" in fails(capsys, "check", good, dot_people / "none.onnx", *data(dot_people))
    one, two = dot_model("one", ("left_wrist",), (2,)), dot_model("hip", ("left_hip",), (1,))
    assert "no joint in common" in fails(capsys, "check", one, two, *data(dot_people))

    def change(document: dict[str, Any]) -> None:
        for person in document["annotations"]:
            person["keypoints"][5] = 0  # without a hip nobody has a length

    edit(dot_people, change)
    assert "no labelled joint" in fails(capsys, "check", good, good, *data(dot_people))
