"""Checkpoints: what goes in comes out, and what is bad is refused with one sentence."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pickle
from collections.abc import Callable
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
from bihrnet_edge.model.zoo import bundled_names, bundled_path
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
    assert (read.metadata.input_height, read.metadata.input_width) == (256, 256)
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


@pytest.mark.parametrize(
    "content",
    [
        b"hello", b"\x89PNG\r\n\x1a\n" + bytes(64), b"PK\x03\x04" + bytes(64),
        b"0.", b"a.", b"\x80\x02t.", b"\x80\x02]Ra.", b"\x80\x02r.", b"\x80\x02NQ.",  # pickle opcodes without operands
    ],
)  # fmt: skip
def test_foreign_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.pt"
    path.write_bytes(content)
    with pytest.raises(UserError, match="not a torch file"):
        load_checkpoint(path)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_random_bytes_are_user_errors(tmp_path: Path) -> None:
    """Pickle's opcodes in any order lead the unpickler into errors of many types."""
    path = tmp_path / "a.pt"
    opcodes = np.frombuffer(b"(.012FIJKLMNPQRSTUVXabcdeghijlopqrstu}]\x80\x85\x86\x87\x88\x8a\x00\x01\x02\n", np.uint8)
    rng = np.random.default_rng(0)
    for _ in range(300):
        path.write_bytes(rng.choice(opcodes, rng.integers(1, 12)).tobytes() + b".")
        with pytest.raises(UserError):
            load_checkpoint(path)


def test_name_that_no_file_can_have(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        load_checkpoint(tmp_path / ("a" * 5000 + ".pt"))


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


def test_heatmap_stride_must_be_the_networks(tiny: Checkpoint) -> None:
    with pytest.raises(UserError, match="heatmap stride 2"):
        dataclasses.replace(tiny, metadata=dataclasses.replace(tiny.metadata, heatmap_stride=2))


@pytest.mark.parametrize(
    ("stem", "name"),
    [("mine", "mine"), ("päß:1", "p---1"), ("-x", "x"), ("._", "model"), ("ä", "model"), ("a" * 120, "a" * 100)],
)
def test_a_bare_state_dict_is_named_after_its_file(tmp_path: Path, stem: str, name: str) -> None:
    path = tmp_path / f"{stem}.pt"
    torch.save({"head.weight": torch.zeros(16, 32, 1, 1)}, path)
    assert load_checkpoint(path, "bihrnet-small").metadata.name == name


_ODD_TENSORS: dict[str, Callable[[], torch.Tensor]] = {
    "meta": lambda: torch.zeros(3, device="meta"),
    "sparse": lambda: torch.eye(3).to_sparse(),
    "csr": lambda: torch.eye(3).to_sparse_csr(),
    "quantized": lambda: torch.quantize_per_tensor(torch.zeros(3), 0.5, 0, torch.qint8),
    "complex": lambda: torch.zeros(3, dtype=torch.complex64),
    "float8": lambda: torch.zeros(3).to(torch.float8_e4m3fn),
}


@pytest.mark.filterwarnings("ignore")  # torch's, about its own sparse and quantized tensors
@pytest.mark.parametrize("form", ["bare", "plain", "packed"])
@pytest.mark.parametrize("kind", _ODD_TENSORS)
def test_tensors_of_other_kinds(tiny: Checkpoint, tmp_path: Path, form: str, kind: str) -> None:
    path, odd = tmp_path / "a.pt", _ODD_TENSORS[kind]()
    if form == "bare":
        torch.save(dict(tiny.state) | {"head.bias": odd}, path)
    else:
        save_checkpoint(path, tiny, packed=form == "packed")
        content = torch.load(path, weights_only=True)
        content["state_dict"]["values" if form == "packed" else "head.bias"] = odd
        torch.save(content, path)
    with pytest.raises(UserError, match=r"is no dense tensor of real numbers|not a torch file"):
        load_checkpoint(path, "bihrnet-small")


@pytest.mark.parametrize("part", ["config", "metadata", "state_dict"])
@pytest.mark.parametrize("key", [3, None, (1, 2), 2.5])
def test_keys_that_are_no_text(tiny: Checkpoint, tmp_path: Path, part: str, key: object) -> None:
    path = tmp_path / "a.pt"
    save_checkpoint(path, tiny)
    content = torch.load(path, weights_only=True)
    content[part] |= {key: torch.zeros(1) if part == "state_dict" else 1}
    torch.save(content, path)
    with pytest.raises(UserError, match="it is damaged"):
        load_checkpoint(path)
    torch.save(dict(tiny.state) | {key: torch.zeros(1)}, path)
    with pytest.raises(UserError, match="not text"):
        load_checkpoint(path, "bihrnet-small")


def _itself() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


@pytest.mark.parametrize("part", ["config", "metadata"])
@pytest.mark.parametrize(
    "value",
    [10**5000, torch.zeros(3), torch.zeros(1, device="meta"), _itself(), {1: 2}],
    ids=["huge", "tensor", "meta", "itself", "key"],
)
def test_descriptions_of_more_than_text_and_numbers(tiny: Checkpoint, tmp_path: Path, part: str, value: object) -> None:
    path = tmp_path / "a.pt"
    save_checkpoint(path, tiny)
    content = torch.load(path, weights_only=True)
    for key in content[part]:
        torch.save(content | {part: content[part] | {key: value}}, path)
        with pytest.raises(UserError, match=f"its {part} holds more than text and numbers|not a torch file"):
            load_checkpoint(path)


def test_tensors_at_the_top_level_do_not_vanish(tmp_path: Path) -> None:
    config = preset("bihrnet-small", keypoints=16)
    w = random_checkpoint(config, name="x", keypoints=MPII, input_size=(64, 64), seed=0)
    torch.save(dict(w.state) | {"scale": torch.ones(1)}, tmp_path / "a.pt")
    with pytest.raises(UserError, match=r"do not belong to the model, first 'scale'"):
        load_checkpoint(tmp_path / "a.pt", "bihrnet-small").build()


def test_build_names_what_does_not_fit(tiny: Checkpoint) -> None:
    key = "stage1.0.reduce.conv.weight"
    state = dict(tiny.state)
    with pytest.raises(UserError, match=r"do not belong.*extra\.weight"):
        dataclasses.replace(tiny, state=state | {"extra.weight": torch.zeros(1)}).build()
    with pytest.raises(UserError, match=rf"{key} has shape \(1,\)"):
        dataclasses.replace(tiny, state=state | {key: torch.zeros(1)}).build()
    with pytest.raises(UserError, match=f"{key} contains NaN"):
        dataclasses.replace(tiny, state=state | {key: torch.full_like(state[key], float("nan"))}).build()
    variance = next(name for name in state if name.endswith("running_var"))
    with pytest.raises(UserError, match=f"{variance} contains a negative variance"):
        dataclasses.replace(tiny, state=state | {variance: -state[variance]}).build()
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


def test_bundled_checkpoints_load_and_are_small() -> None:
    assert "bihrnet-small-lsp" in bundled_names()
    for name in bundled_names():
        path = bundled_path(name)
        assert path is not None
        assert path.stat().st_size <= 3_000_000
        checkpoint = load_checkpoint(name)
        assert checkpoint.metadata.name == name
        checkpoint.build()
