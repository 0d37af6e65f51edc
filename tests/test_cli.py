"""The commands as a person runs them: outputs, files and exit codes."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import fails, run
from PIL import Image

from bihrnet_edge.console import print_table
from bihrnet_edge.model.checkpoint import Checkpoint, load_checkpoint, random_checkpoint, save_checkpoint
from bihrnet_edge.model.config import ModelConfig
from bihrnet_edge.pose.keypoints import COCO, LSP, MPII, KeypointSet
from bihrnet_edge.runtimes import delegate
from bihrnet_edge.runtimes.registry import open_runner

TINY = ModelConfig(width=8, modules=(1, 1, 1), blocks=1, bottlenecks=1, keypoints=14)


def make(folder: Path, keypoints: KeypointSet, name: str = "tiny", seed: int = 1) -> Path:
    config = ModelConfig(width=8, modules=(1, 1, 1), blocks=1, bottlenecks=1, keypoints=len(keypoints))
    path = folder / f"{name}.pt"
    save_checkpoint(path, random_checkpoint(config, name=name, keypoints=keypoints, input_size=(64, 32), seed=seed))
    return path


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("model"), LSP)


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three labelled pictures: ``people.json`` and ``images``."""
    folder = tmp_path_factory.mktemp("people")
    (folder / "images").mkdir()
    rng = np.random.default_rng(0)
    annotations, images = [], []
    for i in range(3):
        Image.fromarray(rng.integers(0, 255, (90, 70, 3), np.uint8)).save(folder / "images" / f"{i}.png")
        images.append({"id": i, "file_name": f"{i}.png", "width": 70, "height": 90})
        points = np.concatenate([rng.uniform(10, 60, (14, 2)), np.full((14, 1), 2.0)], axis=1)
        annotations.append(
            {"id": i, "image_id": i, "category_id": 1, "keypoints": points.ravel().tolist(), "bbox": [5, 5, 60, 80],
             "area": 4800, "iscrowd": 0}
        )  # fmt: skip
    category = {"id": 1, "name": "person", "keypoints": list(LSP.keypoints), "skeleton": []}
    document = {"images": images, "annotations": annotations, "categories": [category]}
    (folder / "people.json").write_text(json.dumps(document))
    return folder


@pytest.fixture(scope="module")
def exported(checkpoint: Path, people: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out")
    code = run(
        "export", checkpoint, "--target", "lce-arm64", "--target", "onnx", "--out", out, "--max-drop", 100,
        "--check-annotations", people / "people.json", "--check-images", people / "images",
    )  # fmt: skip
    assert code == 0
    return out


def test_export_writes_artifacts_and_a_true_report(exported: Path, checkpoint: Path) -> None:
    assert sorted(p.name for p in exported.iterdir()) == ["tiny.export.json", "tiny.lce.tflite", "tiny.onnx"]
    report = json.loads((exported / "tiny.export.json").read_text())
    assert report["config"] == load_checkpoint(checkpoint).config.to_dict()
    assert report["metadata"]["keypoints"]["keypoints"] == list(LSP.keypoints)
    native = {"delegate"} if delegate.find_library() else set()
    assert set(report["metrics"]) == {"name", "torch", "lce", "onnx"} | native
    assert set(report["max_abs_heatmap_diff"]) == {"larq", "lce", "onnx"} | native
    assert report["check"]["people"] == 3
    assert report["check"]["joints"] == list(LSP.keypoints)
    for drop in report["check"]["drops"].values():
        assert drop["low"] <= drop["value"] <= drop["high"]
    for name in ("torch", "tensorflow", "larq", "larq-compute-engine", "onnx", "bihrnet-edge"):
        assert report["versions"][name]
    assert {"convert_lce", "export_onnx", "verify"} <= set(report["seconds"])
    for key, file in (("lce", "tiny.lce.tflite"), ("onnx", "tiny.onnx")):
        artifact = report["artifacts"][key]
        data = (exported / file).read_bytes()
        assert artifact["bytes"] == len(data)
        assert artifact["sha256"] == hashlib.sha256(data).hexdigest()
        assert artifact["rejected"] is None
        assert artifact["agreement"]["images"] == 3
    assert report["artifacts"]["onnx"]["form"] == {"weights": "packed"}
    assert set(report["latency"]["median_ms"]) == {"lce", "onnx"} | native
    assert all(0 < ms < 10_000 for ms in report["latency"]["median_ms"].values())
    # One LceBconv2d a binary convolution.
    binary = sum("sign.beta" in name for name in load_checkpoint(checkpoint).state)
    assert report["artifacts"]["lce"]["ops"]["LceBconv2d"] == binary


@pytest.mark.slow
def test_two_exports_are_byte_identical(exported: Path, checkpoint: Path, tmp_path: Path) -> None:
    """In another process, with another hash seed."""
    command = ["export", str(checkpoint), "--target", "lce-arm64", "--target", "onnx", "--out", str(tmp_path)]
    subprocess.run(
        [sys.executable, "-m", "bihrnet_edge", *command],
        env=os.environ | {"PYTHONHASHSEED": "7"}, check=True, capture_output=True,
    )  # fmt: skip
    for name in ("tiny.lce.tflite", "tiny.onnx"):
        assert (tmp_path / name).read_bytes() == (exported / name).read_bytes(), name


def test_eval_gives_what_the_report_says(exported: Path, checkpoint: Path, people: Path, tmp_path: Path) -> None:
    report = json.loads((exported / "tiny.export.json").read_text())
    for key, model in (("torch", checkpoint), ("lce", exported / "tiny.lce.tflite"), ("onnx", exported / "tiny.onnx")):
        file = tmp_path / f"{key}.json"
        assert run(
            "eval", model, "--annotations", people / "people.json", "--images", people / "images", "--json", file,
            "--threads", 1,
        ) == 0  # fmt: skip
        result = json.loads(file.read_text())
        assert result["value"] == pytest.approx(report["metrics"][key])
        assert result["people"] == 3
        if key == "lce" and delegate.find_library():
            assert (result["runtime"], result["delegate"]) == ("litert", delegate.delegate_info().kernel)


def test_an_artifact_past_the_gate_is_rejected(
    checkpoint: Path, people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A converter that loses accuracy: exit code 3, the artifact kept aside, the accepted one untouched."""
    arguments = (
        "export", checkpoint, "--target", "onnx", "--out", tmp_path,
        "--check-annotations", people / "people.json", "--check-images", people / "images",
    )  # fmt: skip
    assert run(*arguments, "--max-drop", 100) == 0
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}

    from bihrnet_edge.calibration import verification

    honest = verification.metric_for

    class Flattering:
        """Gives the reference, which is scored first, 60 points more."""

        calls = 0

        def __init__(self, keypoints: KeypointSet) -> None:
            self.inner = honest(keypoints)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.inner, name)

        def __call__(self, predictions: Any, who: Any, joints: Any) -> Any:
            import dataclasses

            result = self.inner(predictions, who, joints)
            Flattering.calls += 1
            return dataclasses.replace(result, mean=result.mean + 60.0) if Flattering.calls == 1 else result

    monkeypatch.setattr(verification, "metric_for", Flattering)
    capsys.readouterr()
    assert run(*arguments, "--max-drop", 0.5) == 3
    assert "loses 60.00 points" in capsys.readouterr().err
    assert {p.name for p in tmp_path.iterdir()} - set(before) == {"tiny.onnx.rejected", "tiny.export.json.rejected"}
    for name, data in before.items():
        assert (tmp_path / name).read_bytes() == data
    assert json.loads((tmp_path / "tiny.export.json.rejected").read_text())["artifacts"]["onnx"]["rejected"]
    monkeypatch.undo()
    assert run(*arguments, "--max-drop", 100) == 0
    assert {p.name for p in tmp_path.iterdir()} == set(before)


def test_an_interrupted_export_leaves_the_previous_artifact(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tiny.onnx").write_bytes(b"previous")
    from bihrnet_edge.export import pipeline

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "compare_on_images", interrupt)
    assert run("export", checkpoint, "--target", "onnx", "--out", tmp_path) == 130
    assert [p.name for p in tmp_path.iterdir()] == ["tiny.onnx"]
    assert (tmp_path / "tiny.onnx").read_bytes() == b"previous"


def test_export_takes_the_packed_form(checkpoint: Path, tmp_path: Path) -> None:
    packed = tmp_path / "packed.pt"
    save_checkpoint(packed, load_checkpoint(checkpoint), packed=True)
    assert run("export", packed, "--target", "onnx", "--out", tmp_path / "out") == 0
    report = json.loads((tmp_path / "out" / "tiny.export.json").read_text())
    assert report["metrics"]["onnx"] is None
    assert report["artifacts"]["onnx"]["agreement"]["heatmap_correlation_median"] > 0.999


def test_plain_weights_are_the_same_network(
    exported: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("export", checkpoint, "--target", "onnx", "--onnx-weights", "plain", "--out", tmp_path) == 0
    assert "tiny.onnx (plain)" in capsys.readouterr().out
    assert json.loads((tmp_path / "tiny.export.json").read_text())["artifacts"]["onnx"]["form"] == {"weights": "plain"}
    images = np.random.default_rng(0).standard_normal((2, 64, 32, 3)).astype(np.float32)
    plain, packed = (open_runner(str(folder / "tiny.onnx")).run(images) for folder in (tmp_path, exported))
    assert np.array_equal(plain, packed)
    assert (tmp_path / "tiny.onnx").stat().st_size > 2 * (exported / "tiny.onnx").stat().st_size


def test_inspect_agrees_across_formats(exported: Path, checkpoint: Path, tmp_path: Path) -> None:
    found = []
    for i, model in enumerate((checkpoint, exported / "tiny.lce.tflite", exported / "tiny.onnx")):
        assert run("inspect", model, "--json", tmp_path / f"{i}.json") == 0
        found.append(json.loads((tmp_path / f"{i}.json").read_text()))
    assert [f["kind"] for f in found] == ["checkpoint", "lce-tflite", "onnx"]
    for key in ("binary_macs", "float_macs", "binary_parameters"):
        assert len({f["work"][key] for f in found}) == 1, key
    assert {f["metadata"]["name"] for f in found} == {"tiny"}


def test_predict_writes_keypoints_and_a_picture(exported: Path, people: Path, tmp_path: Path) -> None:
    image = people / "images" / "0.png"
    out = tmp_path / "poses"
    code = run("predict", exported / "tiny.onnx", image, "--out", out, "--box", "5,5,60,80", "--box", "0,0,30,30")
    assert code == 0
    content = json.loads((out / "0.keypoints.json").read_text())
    assert [len(person["keypoints"]) for person in content["people"]] == [14, 14]
    assert [k["name"] for k in content["people"][0]["keypoints"]] == list(LSP.keypoints)
    assert Image.open(out / "0.pose.png").size == (70, 90)


def test_two_pictures_of_one_name_are_refused(capsys: pytest.CaptureFixture[str], checkpoint: Path) -> None:
    assert "'1'" in fails(capsys, "predict", checkpoint, "a/1.jpg", "b/1.png")


def test_a_final_name_that_is_taken_by_a_folder(
    capsys: pytest.CaptureFixture[str], checkpoint: Path, tmp_path: Path
) -> None:
    (tmp_path / "tiny.onnx").mkdir()
    assert "tiny.onnx" in fails(capsys, "export", checkpoint, "--target", "onnx", "--out", tmp_path)


def test_doctor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("doctor", "--json", tmp_path / "d.json") == 0
    report = json.loads((tmp_path / "d.json").read_text())
    assert report["packages"]["numpy"] == np.__version__
    printed = capsys.readouterr().out
    assert "export --target onnx" in printed
    assert report["machine"]["delegate"] in printed
    if delegate.find_library():
        assert str(delegate.find_library()) in report["machine"]["delegate"]


@pytest.mark.parametrize("keypoints", [COCO, MPII], ids=["coco_mini", "mpii_sample"])
def test_models_of_17_and_16_joints_export_and_evaluate(
    keypoints: KeypointSet, shared_data: Path, tmp_path: Path
) -> None:
    model = make(tmp_path, keypoints)
    if keypoints is COCO:
        folder = shared_data / "coco_mini"
        annotations, images, count = folder / "annotations/person_keypoints_val2017.json", folder / "val2017", 68
    else:
        folder = shared_data / "mpii_sample"
        annotations, images, count = folder / "test_mpii.json", folder, 5
    out = tmp_path / "out"
    assert run(
        "export", model, "--target", "onnx", "--out", out, "--check-annotations", annotations, "--check-images", images,
        "--max-drop", 5,
    ) == 0  # fmt: skip
    report = json.loads((out / "tiny.export.json").read_text())
    assert report["check"]["people"] == count
    assert report["metrics"]["name"] == ("PCK@0.2" if keypoints is COCO else "PCKh@0.5")


def test_bad_checkpoints(tmp_path: Path, capsys: pytest.CaptureFixture[str], checkpoint: Path) -> None:
    assert "does not exist" in fails(capsys, "export", tmp_path / "none.pt", "--out", tmp_path / "o")
    (tmp_path / "foreign.pt").write_bytes(b"hello")
    assert "not a torch file" in fails(capsys, "export", tmp_path / "foreign.pt", "--out", tmp_path / "o")
    (tmp_path / "half.pt").write_bytes(checkpoint.read_bytes()[:5000])
    assert "truncated" in fails(capsys, "export", tmp_path / "half.pt", "--out", tmp_path / "o")
    broken = load_checkpoint(checkpoint)
    state = dict(broken.state)
    state["head.bias"] = torch.full_like(state["head.bias"], float("nan"))
    save_checkpoint(tmp_path / "nan.pt", Checkpoint(broken.metadata, broken.config, state))
    assert "head.bias contains NaN" in fails(capsys, "export", tmp_path / "nan.pt", "--out", tmp_path / "o")
    assert not (tmp_path / "o").exists()


def test_bad_arguments(tmp_path: Path, capsys: pytest.CaptureFixture[str], checkpoint: Path, people: Path) -> None:
    assert "'tpu'" in fails(capsys, "export", checkpoint, "--target", "tpu", "--out", tmp_path / "o")
    weights = ("export", checkpoint, "--onnx-weights", "bits", "--out", tmp_path / "o")
    assert "--onnx-weights is 'bits'; choose one of packed, plain" in fails(capsys, *weights)
    assert "belong together" in fails(capsys, "export", checkpoint, "--check-images", tmp_path)
    assert "--box" in fails(capsys, "predict", checkpoint, "a.png", "--box", "1,2,3")
    assert "a.png" in fails(capsys, "predict", checkpoint, "a.png", "--out", tmp_path / "p")
    assert "recipe" in fails(capsys, "train", tmp_path / "none.yaml")
    (tmp_path / "file").write_text("")
    assert "file" in fails(capsys, "export", checkpoint, "--target", "onnx", "--out", tmp_path / "file" / "o")
    document = json.loads((people / "people.json").read_text())
    for annotation in document["annotations"]:
        del annotation["keypoints"]
    (tmp_path / "bare.json").write_text(json.dumps(document))
    eval_ = ("eval", checkpoint, "--images", people / "images", "--annotations")
    assert "keypoints" in fails(capsys, *eval_, tmp_path / "bare.json")
    images = tmp_path / "images"
    images.mkdir()
    for picture in (people / "images").iterdir():
        (images / picture.name).write_bytes(picture.read_bytes()[:60])
    arguments = ("--annotations", people / "people.json", "--images", images)
    assert "0.png" in fails(capsys, "eval", checkpoint, *arguments)


def test_model_and_annotations_must_have_a_joint_in_common(
    capsys: pytest.CaptureFixture[str], people: Path, tmp_path: Path
) -> None:
    model = make(tmp_path, KeypointSet("hand", ("thumb", "index")))
    data = (people / "people.json", "--check-images", people / "images")
    arguments = ("export", model, "--target", "onnx", "--out", tmp_path / "o", "--check-annotations", *data)
    assert "no name in common" in fails(capsys, *arguments)
    assert not (tmp_path / "o").exists()


def test_a_failing_command_is_one_line_and_code_2_in_a_real_process(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bihrnet_edge", "inspect", str(tmp_path / "none.onnx")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stdout == ""
    lines = [line for line in done.stderr.splitlines() if line]
    assert len(lines) == 1
    assert lines[0].startswith("bihrnet-edge: ")


@pytest.mark.parametrize(
    ("module", "arguments"),
    [("torch", ["export", "x.pt"]), ("torch", ["train", "r.yaml"]), ("yaml", ["train", "r.yaml"])],
)
def test_a_missing_extra_is_one_sentence(module: str, arguments: list[str]) -> None:
    program = f"import sys; sys.modules[{module!r}] = None; from bihrnet_edge.cli import main; main({arguments!r})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert f"needs {module}" in done.stderr
    assert 'pip install "bihrnet-edge[' in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "command",
    ["", "export", "calibrate", "inspect", "eval", "check", "demo", "predict", "bench", "train", "doctor", "overlap"],
)
def test_help_has_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*([command] if command else []), "--help") == 0
    text = capsys.readouterr().out
    assert "Usage" in text
    assert not command or f"bihrnet-edge {command}" in text.replace("\n", " ")


def test_help_is_quick_and_imports_nothing_heavy() -> None:
    program = (
        "import sys; from bihrnet_edge.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print([m for m in ('torch', 'tensorflow', 'numpy', 'onnxruntime') if m in sys.modules], file=sys.stderr)"
    )
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
    # Answers in under half a second; the bound is loose because the machine may be busy.
    assert time.perf_counter() - started < 5


def test_tables_show_brackets_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    print_table("[a]", ["x"], [['pip install "bihrnet-edge[export]"']])
    printed = capsys.readouterr().out
    assert "[a]" in printed
    assert "bihrnet-edge[export]" in printed


def test_figures_are_not_cut_on_a_narrow_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich then takes the pipe for a terminal
    print_table("t", ["path", "one", "two"], [["x" * 80, "123456.789", "0.123456"]])
    printed = capsys.readouterr().out
    assert "123456.789" in printed
    assert "0.123456" in printed
