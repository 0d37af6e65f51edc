"""Checkpoints: plain and packed, read without executing anything that is in them.

A checkpoint is a ``torch.save`` file holding only tensors, numbers, strings, lists and dicts, read with
``weights_only=True``. The packed form (:mod:`bihrnet_edge.model.packing`) keeps one bit a binary weight.
"""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bihrnet_edge.errors import UserError
from bihrnet_edge.files import atomic_path
from bihrnet_edge.model.config import HEATMAP_STRIDE, INPUT_MULTIPLE, ModelConfig, preset
from bihrnet_edge.model.hrnet import BiHRNet
from bihrnet_edge.model.packing import COUNTER, pack, unpack
from bihrnet_edge.model.statistics import center_thresholds, reestimate_batchnorm
from bihrnet_edge.model.zoo import bundled_path
from bihrnet_edge.pose.keypoints import KEYPOINT_SETS, KeypointSet
from bihrnet_edge.pose.metadata import PoseMetadata

FORMAT = "bihrnet-edge"
#: Height and width that the paper uses for a keypoint set; a bare state_dict names none.
_PAPER_INPUT = {"mpii": (256, 256)}
_DEFAULT_INPUT = (256, 192)
_DTYPES = frozenset({
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8,
    torch.uint8, torch.bool,
})  # fmt: skip
#: Config and metadata nest two levels deep; a pickle may hold a list that contains itself.
_MAX_DEPTH = 8
_RANDOM_RANGES = {"act.weight": (0.05, 0.5), "bn.weight": (0.5, 1.5), "bn.bias": (-0.3, 0.3)}


@dataclass(frozen=True)
class Checkpoint:
    """A network's description and its weights.

    Attributes:
        metadata: how to feed and read it.
        config: its architecture.
        state: parameters and buffers by name.
    """

    metadata: PoseMetadata
    config: ModelConfig
    state: Mapping[str, Tensor]

    def __post_init__(self) -> None:
        name = self.metadata.name
        if len(self.metadata.keypoints) != self.config.keypoints:
            raise UserError(
                f"checkpoint {name}: {self.config.keypoints} heatmaps but {len(self.metadata.keypoints)} joint "
                f"names in keypoint set {self.metadata.keypoints.name!r}; they must match."
            )
        for side, value in (("height", self.metadata.input_height), ("width", self.metadata.input_width)):
            if value % INPUT_MULTIPLE:
                raise UserError(f"checkpoint {name}: input {side} {value} is not a multiple of {INPUT_MULTIPLE}.")
        if self.metadata.heatmap_stride != HEATMAP_STRIDE:
            raise UserError(
                f"checkpoint {name}: its metadata says heatmap stride {self.metadata.heatmap_stride}, "
                f"the network has {HEATMAP_STRIDE}; correct the metadata."
            )

    def build(self) -> BiHRNet:
        """The network in evaluation mode.

        Raises:
            UserError: a tensor is missing, left over, of another shape, not finite, or a negative variance.
        """
        name = self.metadata.name
        with torch.device("meta"):
            model = BiHRNet(self.config)
        expected = model.state_dict()
        missing = [key for key in expected if key not in self.state and not key.endswith(COUNTER)]
        if missing:
            raise UserError(
                f"checkpoint {name}: {len(missing)} tensors are missing, first {missing[0]!r}; "
                "does the preset or config match the weights?"
            )
        unused = [key for key in self.state if key not in expected]
        if unused:
            raise UserError(
                f"checkpoint {name}: {len(unused)} tensors do not belong to the model, first {unused[0]!r}; "
                "does the preset or config match the weights?"
            )
        for key, tensor in self.state.items():
            if tensor.shape != expected[key].shape:
                raise UserError(
                    f"checkpoint {name}: {key} has shape {tuple(tensor.shape)}, the model needs "
                    f"{tuple(expected[key].shape)}; does the preset, config or keypoint count match?"
                )
            if not torch.isfinite(tensor).all():
                raise UserError(f"checkpoint {name}: {key} contains NaN or infinity; the training diverged.")
            if key.endswith("running_var") and (tensor < 0).any():
                raise UserError(f"checkpoint {name}: {key} contains a negative variance; the file is damaged.")
        counters = {key: torch.zeros((), dtype=torch.int64) for key in expected if key.endswith(COUNTER)}
        model.load_state_dict(counters | dict(self.state), assign=True)
        return model.eval().requires_grad_(False)


def save_checkpoint(path: Path, checkpoint: Checkpoint, *, packed: bool = False) -> None:
    """Write a checkpoint whole or not at all; ``packed`` keeps one bit per binary weight."""
    state = {key: t.detach().cpu().float().clone() for key, t in checkpoint.state.items() if not key.endswith(COUNTER)}
    content = {
        "format": FORMAT,
        "packed": packed,
        "config": checkpoint.config.to_dict(),
        "metadata": checkpoint.metadata.to_dict(),
        "state_dict": pack(state, checkpoint.config) if packed else state,
    }
    with atomic_path(path) as temporary:
        torch.save(content, temporary)


def load_checkpoint(source: str | Path, preset_name: str | None = None) -> Checkpoint:
    """Read a checkpoint file, or one that ships with the package by its name.

    Args:
        source: a path, or a bundled name such as ``bihrnet-small-lsp``.
        preset_name: the architecture of a bare ``state_dict``, which carries none.

    Raises:
        UserError: there is no such file, or it is not a checkpoint, or it would execute code.
    """
    path = bundled_path(str(source)) or Path(source)
    content = _read(path)
    if isinstance(content, dict) and content.get("format") == FORMAT:
        return _from_content(path, content)
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]  # what most trainers write around the weights
    if not isinstance(content, dict) or not content or not all(isinstance(v, Tensor) for v in content.values()):
        raise UserError(f"{path} is a torch file but holds no weights of a model; give a checkpoint or a state_dict.")
    if preset_name is None:
        raise UserError(f"{path} is a bare state_dict without an architecture; name it with --preset.")
    return _from_state_dict(path, content, preset_name)


def _read(path: Path) -> Any:
    try:
        exists = path.exists()
    except OSError as error:
        raise UserError(f"checkpoint {path} cannot be read ({error.strerror}); check the path.") from error
    if not exists:
        raise UserError(f"checkpoint {path} does not exist; give a path or the name of a bundled checkpoint.")
    if path.is_dir():
        raise UserError(f"checkpoint {path} is a folder; give the .pt file.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch asks for a bug report about every foreign pickle
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # foreign bytes lead the unpickler into errors of any type
        message = str(error).lower()
        if isinstance(error, pickle.UnpicklingError) and (
            "unsupported global" in message or "unsupported class" in message
        ):
            raise UserError(
                f"checkpoint {path} contains Python objects that could execute code and was not loaded; "
                "save a state_dict of tensors instead."
            ) from error
        raise UserError(f"checkpoint {path} cannot be read: not a torch file, or truncated.") from error


def _from_content(path: Path, content: Mapping[str, Any]) -> Checkpoint:
    for key in ("config", "metadata", "state_dict"):
        if not isinstance(content.get(key), dict):
            raise UserError(f"checkpoint {path} has no {key!r}; it is damaged.")
    for key in ("config", "metadata"):
        if not _is_plain(content[key]):
            raise UserError(f"checkpoint {path}: its {key} holds more than text and numbers; it is damaged.")
    config, metadata = ModelConfig.from_dict(content["config"]), PoseMetadata.from_dict(content["metadata"])
    state = _tensors(path, content["state_dict"])
    if content.get("packed") is True:
        return Checkpoint(metadata, config, unpack(state, config, f"checkpoint {path}"))
    return Checkpoint(metadata, config, {key: value.float() for key, value in state.items()})


def _is_plain(value: object, depth: int = 0) -> bool:
    """Whether this is what JSON could hold."""
    if isinstance(value, int):
        return abs(value) < 2**63  # Python refuses to print far larger ones, so no message could name them
    if value is None or isinstance(value, (float, str)):
        return True
    if depth == _MAX_DEPTH:
        return False
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(item, depth + 1) for key, item in value.items())
    return isinstance(value, (list, tuple)) and all(_is_plain(item, depth + 1) for item in value)


def _tensors(path: Path, state: Mapping[Any, Any]) -> dict[str, Tensor]:
    """``state`` as ordinary tensors by name; a file can hold sparse, quantised or empty-handed (meta) ones too."""
    tensors: dict[str, Tensor] = {}
    for key, value in state.items():
        if not isinstance(key, str):
            raise UserError(f"checkpoint {path}: a tensor's name is {key!r}, not text; it is damaged.")
        if not isinstance(value, Tensor):
            raise UserError(f"checkpoint {path}: {key!r} is not a tensor; it is damaged.")
        if (
            value.layout != torch.strided
            or value.device.type != "cpu"
            or value.is_nested
            or value.dtype not in _DTYPES  # leaves out quantised and complex ones
        ):
            raise UserError(
                f"checkpoint {path}: {key!r} is no dense tensor of real numbers ({value.dtype}, {value.layout}, "
                f"{value.device.type}); save ordinary float32 tensors."
            )
        tensors[key] = value.detach()
    return tensors


def _from_state_dict(path: Path, content: Mapping[Any, Any], preset_name: str) -> Checkpoint:
    prefix = "module."  # written by DataParallel
    state = {key.removeprefix(prefix): value.float() for key, value in _tensors(path, content).items()}
    head = state.get("head.weight")
    if head is None or head.ndim != 4:
        raise UserError(f"{path}: the state_dict has no head.weight of four axes; it is not a {preset_name}.")
    config = preset(preset_name, keypoints=int(head.shape[0]))
    keypoints = keypoint_set_of_size(config.keypoints)
    height, width = _PAPER_INPUT.get(keypoints.name, _DEFAULT_INPUT)
    name = re.sub(r"[^A-Za-z0-9_.+ -]", "-", path.stem)
    name = re.sub(r"^[^A-Za-z0-9]+", "", name)[:100] or "model"
    return Checkpoint(PoseMetadata(name, height, width, keypoints), config, state)


def keypoint_set_of_size(count: int) -> KeypointSet:
    """The well-known set with ``count`` joints, else one with numbered names."""
    for known in KEYPOINT_SETS.values():
        if len(known) == count:
            return known
    return KeypointSet("unnamed", tuple(f"joint_{i}" for i in range(count)))


def random_checkpoint(
    config: ModelConfig, *, name: str, keypoints: KeypointSet, input_size: tuple[int, int], seed: int
) -> Checkpoint:
    """A network with random weights, slopes and BatchNorm scales: for tests and benchmarks.

    Thresholds and statistics are fitted to random images, so that signs are mixed at every depth, then
    jittered.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = BiHRNet(config)
    for key, tensor in model.state_dict().items():
        for suffix, (low, high) in _RANDOM_RANGES.items():
            if key.endswith(suffix):
                tensor.uniform_(low, high, generator=generator)
    images = torch.randn(4, 3, 64, 64, generator=generator)
    center_thresholds(model, images)
    reestimate_batchnorm(model, [images])
    for key, tensor in model.state_dict().items():
        if key.endswith("beta"):
            tensor += torch.empty_like(tensor).uniform_(-0.1, 0.1, generator=generator)
        if key.endswith("running_var"):
            tensor *= torch.empty_like(tensor).uniform_(0.7, 1.4, generator=generator)
    return Checkpoint(PoseMetadata(name, *input_size, keypoints), config, model.state_dict())
