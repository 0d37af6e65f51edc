"""What is in an artifact: shapes, operators, parameters and multiply-accumulates, counted from the file itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bihrnet_edge.errors import UserError, require_module
from bihrnet_edge.pose.metadata import PoseMetadata
from bihrnet_edge.runtimes import onnx_graph
from bihrnet_edge.runtimes.flatbuffer import FlatbufferError
from bihrnet_edge.runtimes.onnx_file import load_graph, open_session, session_metadata
from bihrnet_edge.runtimes.registry import kind_of
from bihrnet_edge.runtimes.tflite_file import TfliteFile, read_tflite
from bihrnet_edge.runtimes.tflite_work import work_of
from bihrnet_edge.runtimes.torch_runtime import INSTALL
from bihrnet_edge.runtimes.work import Work


@dataclass(frozen=True)
class TensorInfo:
    """An input or output; a size that the file leaves open is -1."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class ArtifactInfo:
    """What :func:`inspect_artifact` found.

    Attributes:
        path: the file, or a bundled checkpoint's name.
        kind: ``checkpoint``, ``onnx``, ``tflite`` or ``lce-tflite``.
        size_bytes: of the file.
        inputs, outputs: as the runtime sees them.
        metadata: None where the file carries none.
        ops: operators by name, most frequent first; torch modules for a checkpoint.
        work: multiply-accumulates and parameters, None where they could not be counted.
        notes: what the reader should know about the figures.
    """

    path: str
    kind: str
    size_bytes: int
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    metadata: PoseMetadata | None
    ops: dict[str, int] | None
    work: Work | None
    notes: tuple[str, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        """JSON-serialisable."""
        values = asdict(self)
        values["metadata"] = None if self.metadata is None else self.metadata.to_dict()
        return values


def inspect_artifact(model: str | Path) -> ArtifactInfo:
    """Describe a checkpoint (path or bundled name), an ``.onnx`` or a ``.tflite`` file, ours or not.

    Raises:
        UserError: the file is missing, damaged or of another kind.
    """
    kind = kind_of(str(model))
    if kind == ".tflite":
        return _inspect_tflite(read_tflite(Path(model)))
    return _inspect_onnx(Path(model)) if kind == ".onnx" else _inspect_checkpoint(str(model))


def _inspect_tflite(file: TfliteFile) -> ArtifactInfo:
    def infos(indices: Sequence[int]) -> tuple[TensorInfo, ...]:
        return tuple(TensorInfo(t.name, t.shape, t.dtype) for t in (file.tensors[i] for i in indices))

    try:
        work = work_of(file)
    except (FlatbufferError, IndexError, KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise UserError(f"{file.path} has an operator that contradicts itself ({error}); export it again.") from error
    return ArtifactInfo(
        str(file.path),
        "lce-tflite" if file.needs_lce else "tflite",
        file.size,
        infos(file.inputs),
        infos(file.outputs),
        file.metadata,
        file.histogram(),
        work,
        (
            "parameters are constants as stored: BatchNorm is folded into the convolutions, of which those whose "
            "weights are +-one value per output channel count as binary.",
        ),
    )


def _inspect_onnx(path: Path) -> ArtifactInfo:
    session = open_session(path)

    def infos(values: Any) -> tuple[TensorInfo, ...]:
        return tuple(
            TensorInfo(
                value.name,
                tuple(size if isinstance(size, int) else -1 for size in value.shape),
                "float32" if value.type == "tensor(float)" else str(value.type),
            )
            for value in values
        )

    ops = work = None
    graph, executed = load_graph(path), load_graph(path, folded=True)
    if graph is None or executed is None:
        notes = ["operators and work are counted with the package onnx, which is not installed."]
    else:
        ops = onnx_graph.histogram(graph)
        work, open_shapes = onnx_graph.work_of(executed)
        notes = [
            "work is that of the graph as ONNX Runtime simplifies it; convolutions whose weights are +-one value "
            "per output channel count as binary."
        ]
        packed, stored = onnx_graph.packed_kernels(graph)
        if packed:
            notes.append(
                f"{packed} kernels are stored as bits, {stored:,} bytes in all; ONNX Runtime expands them when it "
                "loads the file, and the operators that do so are not counted."
            )
        if open_shapes:
            notes.append(
                f"{open_shapes} convolutions or products were not counted: their sizes or weights are not in the file."
            )
    return ArtifactInfo(
        str(path),
        "onnx",
        path.stat().st_size,
        infos(session.get_inputs()),
        infos(session.get_outputs()),
        session_metadata(session, path),
        ops,
        work,
        tuple(notes),
    )


def _inspect_checkpoint(model: str) -> ArtifactInfo:
    torch = require_module("torch", f"inspecting the checkpoint {model}", INSTALL)
    from bihrnet_edge.model.binary import BinaryConv2d
    from bihrnet_edge.model.checkpoint import load_checkpoint
    from bihrnet_edge.model.zoo import bundled_path

    checkpoint = load_checkpoint(model)
    metadata = checkpoint.metadata
    network = checkpoint.build()
    macs = {True: 0, False: 0}

    def count(module: Any, _inputs: Any, output: Any) -> None:
        macs[isinstance(module, BinaryConv2d)] += output.numel() * module.weight[0].numel()

    binary_weights = 0
    names: Counter[str] = Counter()
    for module in network.modules():
        if not any(True for _ in module.children()):
            names[type(module).__name__] += 1
        if isinstance(module, (torch.nn.Conv2d, torch.nn.Linear)):
            module.register_forward_hook(count)
        if isinstance(module, BinaryConv2d):
            binary_weights += module.weight.numel()
    with torch.inference_mode():
        heatmaps = network(torch.zeros(1, 3, metadata.input_height, metadata.input_width))
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return ArtifactInfo(
        model,
        "checkpoint",
        (bundled_path(model) or Path(model)).stat().st_size,
        (TensorInfo("images", (1, 3, metadata.input_height, metadata.input_width), "float32"),),
        (TensorInfo("heatmaps", tuple(heatmaps.shape), "float32"),),
        metadata,
        dict(names.most_common()),
        Work(macs[True], macs[False], binary_weights, parameters - binary_weights),
    )
