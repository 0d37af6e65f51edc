"""Data-parallel training in real processes."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from bihrnet_edge.data.dataset import PoseDataset
from bihrnet_edge.errors import UserError
from bihrnet_edge.model.checkpoint import load_checkpoint, random_checkpoint, save_checkpoint
from bihrnet_edge.model.config import preset
from bihrnet_edge.model.exact import make_exact
from bihrnet_edge.training.processes import make_fabric, restore_statistics

_TIMEOUT = 300
_ENVIRONMENT = {k: v for k, v in os.environ.items() if k not in ("LOCAL_RANK", "NODE_RANK", "WORLD_SIZE")} | {
    "OMP_NUM_THREADS": "1"
}


@pytest.mark.slow
def test_two_processes_have_the_gradients_of_one(toy: PoseDataset, toy_folder: Path, tmp_path: Path) -> None:
    """In the exact form, where BatchNorm sees no batch: gradients, losses and PCK are those of a single process.

    The processes' halves have unequal numbers of labelled joints, so that a mean of means would be another.
    """
    config = preset("bihrnet-small", keypoints=3)
    start = random_checkpoint(config, name="start", keypoints=toy.keypoints, input_size=(32, 32), seed=0)
    save_checkpoint(tmp_path / "start.pt", make_exact(start))
    results: list[dict[str, Any]] = []
    for devices in (1, 2):
        out = tmp_path / f"{devices}.pt"
        script = Path(__file__).with_name("gradients.py")
        subprocess.run(
            [sys.executable, script, toy_folder, out, str(devices), tmp_path / "start.pt"],
            check=True, timeout=_TIMEOUT, env=_ENVIRONMENT,
        )  # fmt: skip
        results.append(torch.load(out, weights_only=True))
    one, two = results
    assert torch.allclose(one["losses"], two["losses"], rtol=1e-4)
    assert (one["losses"][:3] > 0).all()
    assert one["value"] == two["value"]
    assert (one["save"].item(), two["save"].item()) == (1.0, 1.0)
    assert two["mean"].tolist() == [0.5, 1.5, 2.5]  # of 0, 1, 2 and 1, 2, 3
    assert one["gradients"].keys() == two["gradients"].keys()
    assert len(one["gradients"]) > 50
    for name, gradient in one["gradients"].items():
        scale = gradient.abs().max().item()
        assert scale > 0, name
        assert (two["gradients"][name] - gradient).abs().max().item() < 1e-3 * scale, name


def _recipe(toy_folder: Path, tmp_path: Path, **changes: object) -> Path:
    phase = {"size": [32, 32], "batch": 4, "epochs": 2, "losses": {"awing": 0.2}, "ema_decay": 0.9}
    recipe = {
        "name": "toy",
        "preset": "tiny",
        "canvas": 64,
        "phases": [phase | {"name": "a", "network": "twin"}, phase | {"name": "b", "network": "binary"}],
    } | changes
    for split in ("train", "val"):
        recipe |= {
            f"{split}_annotations": str(toy_folder / "people.json"),
            f"{split}_images": str(toy_folder / "images"),
        }
    path = tmp_path / f"recipe{len(changes)}.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return path


def _start(recipe: Path, out: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, Path(__file__).with_name("train_tiny.py"), recipe, "--out", out, "--threads", "1"]
    return subprocess.Popen(
        [*command, "--accelerator", "cpu", *options],
        env=_ENVIRONMENT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip


def _finish(process: subprocess.Popen[str]) -> None:
    output, errors = process.communicate(timeout=_TIMEOUT)
    assert process.returncode == 0, errors
    assert output.strip().endswith("toy.pt")
    assert output.count("toy.pt") == 1  # of all processes only the first speaks


def _alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.slow
@pytest.mark.thorough
def test_a_run_killed_by_the_system_goes_on_to_the_same_bits(toy_folder: Path, tmp_path: Path) -> None:
    """Of two processes, which is the harder case: ``test_trainer.py`` stops single ones at many steps."""
    devices = "2"
    recipe = _recipe(toy_folder, tmp_path)
    _finish(_start(recipe, tmp_path / "whole", "--devices", devices))

    # The other run reads ahead in workers, which must go when their process is killed, and changes no bit.
    recipe, out = _recipe(toy_folder, tmp_path, data={"cache": "none", "workers": 1}), tmp_path / "parts"
    process = _start(recipe, out, "--devices", devices, "--save-every", "0")
    deadline = time.monotonic() + _TIMEOUT
    while not (out / "log.jsonl").exists() or not (out / "state.pt").exists():  # in the second epoch, then
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    while _alive(process.pid):  # the other process and the workers end by themselves
        assert time.monotonic() < deadline
        time.sleep(0.1)
    state = torch.load(out / "state.pt", weights_only=True)
    assert not (out / "toy.pt").exists()
    assert len(state["statistics"]) == int(devices)

    _finish(_start(recipe, out, "--devices", devices))
    whole, parts = (load_checkpoint(folder / "toy.pt").state for folder in (tmp_path / "whole", out))
    assert all(torch.equal(tensor, parts[name]) for name, tensor in whole.items())
    logs = []
    for folder in (tmp_path / "whole", out):
        lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        logs.append([(e["event"], e["phase"], e["epoch"], e["val_pck"], e["losses"]) for e in lines])
    assert logs[0] == logs[1]
    assert list((out / "tensorboard").iterdir())


@pytest.mark.slow
def test_an_image_that_cannot_be_read_ends_all_processes(toy_folder: Path, tmp_path: Path) -> None:
    """Of two processes one alone reads it; both end with its sentence, and so do the workers."""
    devices = "2"
    shutil.copytree(toy_folder, tmp_path / "toy")
    (tmp_path / "toy" / "images" / "7.png").write_bytes(b"no image")
    recipe = _recipe(tmp_path / "toy", tmp_path, data={"cache": "none", "workers": 1})
    process = _start(recipe, tmp_path / "run", "--devices", devices)
    output, errors = process.communicate(timeout=_TIMEOUT)
    assert process.returncode == 2, errors
    assert not output
    sentences = [line for line in errors.splitlines() if line.startswith("bihrnet-edge: ")]
    assert len(sentences) == int(devices)
    assert all(re.search(r"image \S*/7\.png cannot be read", line) for line in sentences)
    assert "Traceback" not in errors
    deadline = time.monotonic() + _TIMEOUT
    while _alive(process.pid):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_another_number_of_processes_starts_from_the_mean() -> None:
    norm = torch.nn.BatchNorm1d(2)
    gathered = torch.tensor([[1.0, 2.0, 3.0, 4.0], [3.0, 4.0, 5.0, 6.0]])
    restore_statistics(make_fabric(), norm, gathered)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert (norm.running_mean.tolist(), norm.running_var.tolist()) == ([2.0, 3.0], [4.0, 5.0])
    restore_statistics(make_fabric(), norm, gathered[1:])
    assert norm.running_mean.tolist() == [3.0, 4.0]


def test_devices_that_are_not_there_are_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UserError, match="--devices 2: torch finds 1 CUDA devices"):
        make_fabric("cuda", 2)
    with pytest.raises(UserError, match="precision is 16-mixed"):
        make_fabric("cpu", precision="16-mixed")
