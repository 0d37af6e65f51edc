"""What is in an artifact: shapes, operators, parameters and multiply-accumulates, counted from the file itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bihrnet_edge.errors import UserError, require_module
from bihrnet_edge.pose.metadata import PoseMetadata
from bihrnet_edge.runtimes import onnx_graph
from bihrnet_edge.runtimes.flatbuffer import FlatbufferError
from bihrnet_edge.runtimes.layers import BINARY, FLOAT, Layer, total
from bihrnet_edge.runtimes.onnx_file import load_graph, open_session, session_metadata
from bihrnet_edge.runtimes.registry import kind_of
from bihrnet_edge.runtimes.tflite_file import TfliteFile, read_tflite
from bihrnet_edge.runtimes.tflite_work import layers_of
from bihrnet_edge.runtimes.torch_runtime import INSTALL
from bihrnet_edge.runtimes.work import Work

_RANK = 4


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
        layers: in the order of execution; None where they could not be read. Their work adds up to ``work``.
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
    layers: tuple[Layer, ...] | None = None

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
        layers = layers_of(file)
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
        total(layers),
        (
            "parameters are constants as stored: BatchNorm is folded into the convolutions, of which those whose "
            "weights are +-one value per output channel count as binary.",
        ),
        layers,
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

    ops = layers = None
    graph, executed = load_graph(path), load_graph(path, folded=True)
    if graph is None or executed is None:
        notes = ["operators and work are counted with the package onnx, which is not installed."]
    else:
        ops = onnx_graph.histogram(graph)
        layers, open_shapes = onnx_graph.layers_of(executed)
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
        None if layers is None else total(layers),
        tuple(notes),
        layers,
    )


def _inspect_checkpoint(model: str) -> ArtifactInfo:
    torch = require_module("torch", f"inspecting the checkpoint {model}", INSTALL)
    from bihrnet_edge.model.binary import BinaryConv2d
    from bihrnet_edge.model.checkpoint import load_checkpoint
    from bihrnet_edge.model.zoo import bundled_path

    checkpoint = load_checkpoint(model)
    metadata = checkpoint.metadata
    network = checkpoint.build()
    layers: list[Layer] = []
    counted: set[int] = set()
    names: Counter[str] = Counter()

    def hook(name: str) -> Callable[[Any, Any, Any], None]:
        def count(module: Any, _inputs: Any, output: Any) -> None:
            binary = isinstance(module, BinaryConv2d)
            product = isinstance(module, (torch.nn.Conv2d, torch.nn.Linear))
            macs = output.numel() * module.weight[0].numel() if product else 0
            weights = others = 0
            for parameter in module.parameters(recurse=False):
                if id(parameter) in counted:
                    continue
                counted.add(id(parameter))
                if binary and parameter is module.weight:
                    weights += parameter.numel()
                else:
                    others += parameter.numel()
            shape = tuple(output.shape)
            layers.append(
                Layer(
                    name=name,
                    op=type(module).__name__,
                    kind=BINARY if binary else FLOAT,
                    shape=(shape[0], shape[2], shape[3], shape[1]) if len(shape) == _RANK else shape,
                    kernel=tuple(module.kernel_size) if isinstance(module, torch.nn.Conv2d) else None,
                    work=Work(macs if binary else 0, 0 if binary else macs, weights, others),
                )
            )

        return count

    for name, module in network.named_modules():
        leaf = not any(True for _ in module.children())
        if leaf:
            names[type(module).__name__] += 1
        if leaf or any(True for _ in module.parameters(recurse=False)):
            module.register_forward_hook(hook(name))
    with torch.inference_mode():
        heatmaps = network(torch.zeros(1, 3, metadata.input_height, metadata.input_width))
    return ArtifactInfo(
        model,
        "checkpoint",
        (bundled_path(model) or Path(model)).stat().st_size,
        (TensorInfo("images", (1, 3, metadata.input_height, metadata.input_width), "float32"),),
        (TensorInfo("heatmaps", tuple(heatmaps.shape), "float32"),),
        metadata,
        dict(names.most_common()),
        total(layers),
        (
            "layers are the network's modules as torch runs them; additions and other functions between them, who "
            "reads whom, and bytes of each are not known of a checkpoint.",
        ),
        tuple(layers),
    )
