"""Checkpoints: what goes in comes out, and what is bad is refused with one sentence."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bihrnet_edge.errors import UserError
from bihrnet_edge.model.checkpoint import (
    Checkpoint,
    load_checkpoint,
    random_checkpoint,
    save_checkpoint,
)
from bihrnet_edge.model.config import ModelConfig, preset
from bihrnet_edge.model.packing import layout, pack, unpack
from bihrnet_edge.model.zoo import bundled_names
from bihrnet_edge.pose.keypoints import COCO, LSP, MPII
from bihrnet_edge.pose.metadata import PoseMetadata

TINY = ModelConfig(width=8, modules=(1, 1, 1), blocks=1, bottlenecks=1, keypoints=14)


@pytest.fixture
def tiny() -> Checkpoint:
    return random_checkpoint(TINY, name="tiny", keypoints=LSP, input_size=(64, 32), seed=1)


@pytest.mark.parametrize("packed", [False, True])
def test_round_trip(tiny: Checkpoint, tmp_path: Path, packed: bool) -> None:
    save_checkpoint(tmp_path / "a.pt", tiny, packed=packed)
    read = load_checkpoint(tmp_path / "a.pt")
    assert (read.config, read.metadata) == (tiny.config, tiny.metadata)
    image = torch.randn(1, 3, 64, 32, generator=torch.Generator().manual_seed(0))
    a, b = tiny.build()(image), read.build()(image)
    if packed:  # the scale is a mean again, equal but for rounding
        assert np.corrcoef(a.flatten(), b.flatten())[0, 1] > 0.9999
    else:
        assert torch.equal(a, b)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 1000))
def test_packed_kernels_keep_every_sign_and_the_scale(seed: int) -> None:
    tiny = random_checkpoint(TINY, name="tiny", keypoints=LSP, input_size=(64, 32), seed=seed)
    state = dict(tiny.state)
    key = "stage1.0.spatial.conv.weight"
    state[key] = state[key].clone()
    state[key][0, 0, 0] = torch.tensor([0.0, -0.0, -1e-30])
    unpacked = unpack(pack(state, TINY), TINY, "test")
    shapes, binary = layout(TINY)
    assert unpacked.keys() == shapes.keys()
    for name, tensor in unpacked.items():
        original = state[name].numpy()
        if name in binary:
            scale = np.abs(original.astype(np.float64)).mean(axis=(1, 2, 3), keepdims=True).astype(np.float32)
            assert np.array_equal(tensor.numpy(), np.where(original < 0, -scale, scale))
        else:
            assert np.array_equal(tensor.numpy(), original)


def test_packing_twice_gives_the_same_bits(tiny: Checkpoint) -> None:
    once = pack(tiny.state, TINY)
    twice = pack(unpack(once, TINY, "test"), TINY)
    assert torch.equal(once["bits"], twice["bits"])
    assert torch.equal(once["values"], twice["values"])


def test_packed_w32_is_under_five_megabytes(tmp_path: Path) -> None:
    w32 = random_checkpoint(preset("bihrnet-w32"), name="w32", keypoints=COCO, input_size=(256, 192), seed=0)
    save_checkpoint(tmp_path / "w32.pt", w32, packed=True)
    assert (tmp_path / "w32.pt").stat().st_size < 5_000_000


def test_bare_state_dict_needs_a_preset(tmp_path: Path) -> None:
    w = random_checkpoint(preset("bihrnet-small", keypoints=16), name="x", keypoints=MPII, input_size=(64, 64), seed=0)
    path = tmp_path / "mine.pt"
    torch.save({f"module.{key}": value for key, value in w.state.items()}, path)
    with pytest.raises(UserError, match="--preset"):
        load_checkpoint(path)
    read = load_checkpoint(path, "bihrnet-small")
    assert read.metadata.keypoints == MPII
    assert read.metadata.name == "mine"
    read.build()
    with pytest.raises(UserError, match="preset or config"):
        load_checkpoint(path, "bihrnet-w32").build()
    with pytest.raises(UserError, match="no preset"):
        load_checkpoint(path, "vgg")


def test_missing_file_names_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere\.pt does not exist"):
        load_checkpoint(tmp_path / "nowhere.pt")
    with pytest.raises(UserError, match="folder"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize("keep", [0, 1, 100, 0.5, 0.99])
def test_truncated_file(tiny: Checkpoint, tmp_path: Path, keep: float) -> None:
    path = tmp_path / "a.pt"
    save_checkpoint(path, tiny)
    data = path.read_bytes()
    path.write_bytes(data[: keep if isinstance(keep, int) else int(len(data) * keep)])
    with pytest.raises(UserError, match="truncated"):
        load_checkpoint(path)


@pytest.mark.parametrize("content", [b"hello", b"\x89PNG\r\n\x1a\n" + bytes(64), b"PK\x03\x04" + bytes(64)])
def test_foreign_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.pt"
    path.write_bytes(content)
    with pytest.raises(UserError, match="not a torch file"):
        load_checkpoint(path)


class _Bomb:
    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.victim),)


@pytest.mark.parametrize("writer", ["torch", "pickle"])
def test_a_pickle_that_would_execute_code_does_not(tmp_path: Path, writer: str) -> None:
    victim, path = tmp_path / "executed", tmp_path / "a.pt"
    if writer == "torch":
        torch.save({"state_dict": _Bomb(victim)}, path)
    else:
        path.write_bytes(pickle.dumps({"state_dict": _Bomb(victim)}))
    with pytest.raises(UserError, match=r"execute code|not a torch file"):
        load_checkpoint(path)
    assert not victim.exists()


def test_keypoint_count_must_match(tiny: Checkpoint) -> None:
    with pytest.raises(UserError, match="14 heatmaps but 17"):
        dataclasses.replace(tiny, metadata=PoseMetadata("tiny", 64, 32, COCO))


def test_input_size_must_be_a_multiple_of_32(tiny: Checkpoint) -> None:
    with pytest.raises(UserError, match="width 40"):
        dataclasses.replace(tiny, metadata=PoseMetadata("tiny", 64, 40, LSP))


def test_build_names_what_does_not_fit(tiny: Checkpoint) -> None:
    key = "stage1.0.reduce.conv.weight"
    state = dict(tiny.state)
    with pytest.raises(UserError, match=r"do not belong.*extra\.weight"):
        dataclasses.replace(tiny, state=state | {"extra.weight": torch.zeros(1)}).build()
    with pytest.raises(UserError, match=rf"{key} has shape \(1,\)"):
        dataclasses.replace(tiny, state=state | {key: torch.zeros(1)}).build()
    with pytest.raises(UserError, match=f"{key} contains NaN"):
        dataclasses.replace(tiny, state=state | {key: torch.full_like(state[key], float("nan"))}).build()
    del state[key]
    with pytest.raises(UserError, match=rf"missing, first '{key}'"):
        dataclasses.replace(tiny, state=state).build()


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_damaged_contents_are_user_errors(data: st.DataObject) -> None:
    """Replace any one part of a packed checkpoint by something else: a sentence or a working model."""
    import tempfile

    tiny = random_checkpoint(TINY, name="tiny", keypoints=LSP, input_size=(64, 32), seed=1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.pt"
        save_checkpoint(path, tiny, packed=True)
        content = torch.load(path, weights_only=True)
        target = content
        while True:
            key = data.draw(st.sampled_from(sorted(target)))
            if isinstance(target[key], dict) and data.draw(st.booleans()):
                target = target[key]
                continue
            target[key] = data.draw(
                st.sampled_from([None, -1, 2.5, "x", [], {}, torch.zeros(3), torch.tensor([10**9, 10**9, 9, 9])])
            )
            break
        torch.save(content, path)
        with contextlib.suppress(UserError):
            load_checkpoint(path).build()


@pytest.mark.parametrize("name", bundled_names())
def test_bundled_checkpoints_load_and_are_small(name: str) -> None:
    checkpoint = load_checkpoint(name)
    assert checkpoint.metadata.name == name
    checkpoint.build()
