"""What ``inspect`` found as one HTML file that needs nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from bihrnet_edge.errors import UserError
from bihrnet_edge.files import make_folder, write_text
from bihrnet_edge.html import Markup, document, figure, joined, table, tag
from bihrnet_edge.runtimes import layer_plots as plots
from bihrnet_edge.runtimes.bench.page import profile_section
from bihrnet_edge.runtimes.bench.process import Entry
from bihrnet_edge.runtimes.bench.run import bench
from bihrnet_edge.runtimes.inspect import ArtifactInfo, TensorInfo
from bihrnet_edge.runtimes.layers import BINARY, FLOAT, INT8, KINDS, Layer, bytes_by_kind, macs_by_kind
from bihrnet_edge.runtimes.profile import Profile

#: Inferences of the profile, and those before them.
RUNS, WARMUP = 20, 5
#: Rows of the table of layers: any file may be handed over, and browsers grow slow with very long tables.
_MAX_ROWS = 5000
_NAMES = {FLOAT: "float", INT8: "int8", BINARY: "binary"}


def measure(info: ArtifactInfo, runs: int = RUNS) -> Profile:
    """Where the delegate's time goes in a few inferences on one thread of this machine.

    Raises:
        UserError: the delegate has no part in such a file, or cannot run this one.
    """
    if info.kind != "lce-tflite":
        kind = {"checkpoint": "a checkpoint", "onnx": "an .onnx"}.get(info.kind, "a .tflite without LCE's operators")
        raise UserError(f"time by step is the native delegate's, which runs .lce.tflite files; this is {kind}.")
    report = bench([Entry(info.path, "litert", 1)], runs, min(WARMUP, runs), profile=True)
    profile = report.results[0].profile
    if profile is None or not profile.steps:
        raise UserError("the delegate took none of the operators, so that there are no steps to time.")
    return profile


def write_inspection(path: Path, info: ArtifactInfo, profile: Profile | str) -> None:
    """Write the report, whole or not at all.

    Args:
        path: the HTML file.
        info: what it shows.
        profile: time by step, or a sentence that says why there is none.

    Raises:
        UserError: the file cannot be written.
    """
    make_folder(path.resolve().parent)
    write_text(path, render(info, profile))


def render(info: ArtifactInfo, profile: Profile | str) -> str:
    """The HTML document."""
    title = f"Inside {Path(info.path).name}"
    layers = info.layers or ()
    return document(
        title,
        joined(
            tag("h1", title),
            _summary(info),
            _shares(layers, profile),
            _network_section(layers),
            _time_section(layers, profile),
            _operators_section(info, layers),
            _layers_section(layers),
            _facts_section(info),
        ),
        style=plots.STYLE,
    )


def _summary(info: ArtifactInfo) -> Markup:
    tiles = [("file", _bytes(info.size_bytes)), ("input", " · ".join(_size(t) for t in info.inputs) or "none")]
    tiles.append(("output", " · ".join(_size(t) for t in info.outputs) or "none"))
    if info.work is not None:
        work = info.work
        tiles.append(("multiply-accumulates", _millions(work.binary_macs + work.float_macs)))
        tiles.append(("of them binary", _share(work.binary_macs, work.binary_macs + work.float_macs)))
        tiles.append(("parameters", _millions(work.binary_parameters + work.float_parameters)))
        tiles.append(("of them 1-bit", _share(work.binary_parameters, work.binary_parameters + work.float_parameters)))
    entries = (tag("div", joined(tag("dt", name), tag("dd", value))) for name, value in tiles)
    return tag("dl", joined(*entries), class_="tiles")


def _size(tensor: TensorInfo) -> str:
    sizes = tensor.shape[1:] if tensor.shape[:1] == (1,) else tensor.shape
    return "×".join("n" if size < 0 else str(size) for size in sizes) or "one value"


def _shares(layers: Sequence[Layer], profile: Profile | str) -> Markup:
    rows: dict[str, list[tuple[str, float, str]]] = {}
    macs, constants = macs_by_kind(layers), bytes_by_kind(layers)
    if any(macs.values()):
        rows["MACs"] = [(kind, macs[kind], _NAMES[kind]) for kind in KINDS]
    if any(constants.values()):
        rows["bytes"] = [(kind, constants[kind], _NAMES[kind]) for kind in KINDS]
    if isinstance(profile, Profile):
        real = _real_kind(layers)
        times = plots.time_by_kind(profile, real)
        rows["time"] = [(kind, ms, _NAMES.get(kind, "neither")) for kind, ms in times.items()]
    if not rows:
        return Markup("")
    lines = [
        [name, *(f"{amount:.1%}" for amount in _fractions(parts))]
        for name, parts in ((n, {k: a for k, a, _ in p}) for n, p in rows.items())
    ]
    used = {kind: _NAMES[kind] for kind in KINDS if any(k == kind and a > 0 for p in rows.values() for k, a, _ in p)}
    if "time" in rows:
        used[plots.OTHER] = "neither: additions, activations, layout, LiteRT itself"
    return joined(
        tag("h2", "Float, int8 and binary"),
        plots.key(used),
        figure(plots.share_bars(rows), "Of multiply-accumulates, of constants' bytes, and of an inference's time."),
        table(["share of", "float", "int8", "binary", "neither"], lines, class_="figures"),
    )


def _fractions(parts: dict[str, float]) -> list[float]:
    whole = sum(parts.values())
    return [parts.get(kind, 0.0) / whole for kind in (*KINDS, plots.OTHER)]


def _real_kind(layers: Sequence[Layer]) -> str:
    """Of most real-valued convolutions."""
    macs = macs_by_kind(layers)
    return INT8 if macs[INT8] > macs[FLOAT] else FLOAT


def _network_section(layers: Sequence[Layer]) -> Markup:
    if not any(layer.macs for layer in layers):
        return joined(tag("h2", "The network"), tag("p", "No layer is known that multiplies, so there is no picture."))
    ordered = any(layer.reads is not None for layer in layers)
    order = (
        "A layer stands right of all that it needs; thin lines are results that change resolution."
        if ordered
        else "Layers stand in the order of execution: who reads whom is not known."
    )
    others = sum(not layer.macs for layer in layers)
    rest = f" {others} layers that do not multiply (additions, activations, …) are in the tables alone."
    kinds = {kind: _NAMES[kind] for kind in KINDS if any(layer.kind == kind and layer.macs for layer in layers)}
    parts = [
        tag("h2", "The network"),
        plots.key(kinds),
        figure(
            plots.network(layers, lambda layer: layer.macs, "multiply-accumulates", _described),
            "One bar a layer, one lane a resolution; height is the square root of the multiply-accumulates that stand "
            f"above each other. {order}{rest}",
        ),
    ]
    if any(layer.constant_bytes for layer in layers if layer.macs):
        picture = plots.network(layers, lambda layer: layer.constant_bytes or 0, "bytes of constants", _described)
        parts.append(figure(picture, "The same by the bytes of their constants."))
    return joined(*parts)


def _described(layer: Layer) -> str:
    lines = [
        layer.name.partition(";")[0],
        f"{layer.op}, {_kernel(layer)}{_shape(layer)}",
        f"{_millions(layer.macs)} MACs",
    ]
    if layer.constant_bytes is not None:
        lines.append(_bytes(layer.constant_bytes))
    return "\n".join(lines)


def _time_section(layers: Sequence[Layer], profile: Profile | str) -> Markup:
    if isinstance(profile, str):
        return joined(tag("h2", "Time by step"), tag("p", profile))
    caption = (
        f"{profile.run_ms:.2f} ms an inference on one thread, kernels {profile.kernel}, warming up included: each step "
        "of the delegate when it runs, in the lane of its result's resolution. A few inferences; bench takes more care."
    )
    return joined(
        tag("h2", "Time by step"),
        figure(plots.course(profile, _real_kind(layers)), caption),
        profile_section("an inference", profile, "h3"),
    )


def _operators_section(info: ArtifactInfo, layers: Sequence[Layer]) -> Markup:
    if not layers:
        return Markup("")
    count: Counter[tuple[str, str]] = Counter()
    macs: Counter[tuple[str, str]] = Counter()
    constants: Counter[tuple[str, str]] = Counter()
    for layer in layers:
        group = layer.op, layer.kind
        count[group] += 1
        macs[group] += layer.macs
        constants[group] += layer.constant_bytes or 0
    known = any(layer.constant_bytes is not None for layer in layers)
    rows = [
        [op, kind, number, _millions(macs[op, kind]), _bytes(constants[op, kind]) if known else "–"]
        for (op, kind), number in sorted(count.items(), key=lambda item: (-macs[item[0]], -item[1], item[0]))
    ]
    rest = ""
    if known and info.kind != "onnx":
        stored = sum(layer.constant_bytes or 0 for layer in layers)
        rest = f"{_bytes(info.size_bytes - stored)} of the file are the graph itself, names and metadata."
    elif info.kind == "onnx":
        rest = "Bytes are those of the constants as ONNX Runtime holds them, not as the file stores them."
    return joined(
        tag("h2", "By operator"),
        table(["operator", "kind", "count", "MACs", "constants"], rows, class_="figures"),
        tag("p", rest, class_="note") if rest else "",
    )


def _layers_section(layers: Sequence[Layer]) -> Markup:
    if not layers:
        return Markup("")
    rows = [
        [
            layer.name.partition(";")[0], layer.op, layer.kind, _shape(layer), _kernel(layer).rstrip(", ") or "–",
            f"{layer.macs:,}" if layer.macs else "–", f"{layer.parameters:,}" if layer.parameters else "–",
            "–" if layer.constant_bytes is None else f"{layer.constant_bytes:,}",
        ]
        for layer in layers[:_MAX_ROWS]
    ]  # fmt: skip
    left_out = len(layers) - len(rows)
    columns = ["name", "operator", "kind", "result H×W×C", "kernel", "MACs", "parameters", "bytes"]
    return joined(
        tag("h2", "Layers"),
        tag(
            "details",
            joined(
                tag("summary", f"All {len(layers):,} layers in the order of execution"),
                table(columns, rows, class_="figures layers"),
                tag("p", f"{left_out:,} more are left out; --json has them.", class_="note") if left_out else "",
            ),
        ),
    )


def _facts_section(info: ArtifactInfo) -> Markup:
    facts: list[list[object]] = [["file", info.path], ["kind", info.kind]]
    facts += [["input", f"{t.name} {list(t.shape)} {t.dtype}"] for t in info.inputs]
    facts += [["output", f"{t.name} {list(t.shape)} {t.dtype}"] for t in info.outputs]
    if info.metadata is not None:
        joints = info.metadata.keypoints
        facts.append(
            ["model", f"{info.metadata.name}, {len(joints)} joints ({joints.name}): {', '.join(joints.keypoints)}"]
        )
    else:
        facts.append(["model", "the file has no metadata of bihrnet-edge"])
    facts += [["note", note] for note in info.notes]
    return joined(tag("h2", "The file"), table(["fact", "value"], facts, class_="facts"))


def _shape(layer: Layer) -> str:
    if layer.shape is None:
        return "not in the file"
    sizes = layer.shape[1:] if len(layer.shape) == 4 and layer.shape[0] == 1 else layer.shape
    return "×".join(map(str, sizes)) or "one value"


def _kernel(layer: Layer) -> str:
    return f"{layer.kernel[0]}×{layer.kernel[1]}, " if layer.kernel else ""


def _millions(value: int) -> str:
    if not value:
        return "–"
    return f"{value:,}" if value < 10_000 else f"{value / 1e6:.2f} M" if value < 1e9 else f"{value / 1e9:.2f} G"


def _bytes(value: int) -> str:
    return f"{value:,} B" if value < 10_000 else f"{value / 1000:.1f} kB" if value < 1e6 else f"{value / 1e6:.2f} MB"


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "–"
