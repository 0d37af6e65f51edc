"""How a binary convolution is best written in an ``.onnx``: as floats, as bits that become floats, or in integers.

    python benchmarks/onnx_forms.py model.pt [--rounds 12]

Layers first: HRNet-W32's 3x3 widths at 256x192 and its 1x1, from comparing with the thresholds to the scaled result,
in ONNX Runtime on one thread. ``Conv`` takes 0 and 1 as floats; ``ConvInteger`` takes them as bytes and gives exact
32-bit sums that are cast and scaled. Then the checkpoint as a whole: plain and packed floats, and with every binary
convolution as ``ConvInteger``. The forms take turns; a ratio is the median of those within a turn. Sizes, seconds of
loading and the memory that loading and one inference take, each in a process of its own, come last.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from bihrnet_edge.export.onnx_model import export_onnx
from bihrnet_edge.export.weights import binary_magnitude
from bihrnet_edge.model.checkpoint import load_checkpoint

#: Channels, height, width and kernel side.
_LAYERS = ((32, 64, 48, 3), (64, 32, 24, 3), (128, 16, 12, 3), (256, 8, 6, 3), (256, 64, 48, 1))
_LAYER_RUNS = 10
#: Zero points.
_ZERO, _ONE = "zero_point_0", "zero_point_1"
#: Loads, runs once and prints what that took; the memory is over that of the runtime alone.
_LOADING = """
import json, sys, time
import numpy as np, onnxruntime
def peak():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
before, started = peak(), time.perf_counter()
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
seconds = time.perf_counter() - started
shape = [1, *session.get_inputs()[0].shape[1:]]
session.run(None, {session.get_inputs()[0].name: np.zeros(shape, np.float32)})
print(json.dumps({"seconds": seconds, "mib": peak() - before}))
"""


def _session(model: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def as_integers(model: onnx.ModelProto) -> int:
    """Give every convolution with a binary kernel behind a comparison integer inputs, in place; returns how many.

    ``Cast(bool) -> Conv(t, +-a) + bias`` becomes ``Cast(bool, uint8) -> ConvInteger(t, +-1) -> Cast -> * a + bias``.
    """
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    makers = {name: node for node in graph.node for name in node.output}
    nodes: list[onnx.NodeProto] = []
    added: list[onnx.TensorProto] = []
    casts: set[str] = set()
    changed = 0
    for node in graph.node:
        kernel = numpy_helper.to_array(constants[node.input[1]]) if node.op_type == "Conv" else None
        magnitude = None if kernel is None else binary_magnitude(kernel)
        maker = makers.get(node.input[0]) if node.op_type == "Conv" else None
        if kernel is None or magnitude is None or maker is None or maker.op_type != "Cast":
            nodes.append(node)
            continue
        name, bits = node.output[0], f"{maker.input[0]}.bits"
        if bits not in casts:
            casts.add(bits)
            nodes.append(helper.make_node("Cast", [maker.input[0]], [bits], to=TensorProto.UINT8))
        # ONNX Runtime's ConvInteger takes unsigned kernels only: 0 and 2 around a zero point of 1.
        signs = np.where(np.signbit(kernel), 0, 2).astype(np.uint8)
        added.append(numpy_helper.from_array(signs, f"{name}.kernel"))
        added.append(numpy_helper.from_array(magnitude.reshape(1, -1, 1, 1), f"{name}.scale"))
        convolution = helper.make_node("ConvInteger", [bits, f"{name}.kernel", _ZERO, _ONE], [f"{name}.sums"])
        convolution.attribute.extend(node.attribute)
        nodes += [
            convolution,
            helper.make_node("Cast", [f"{name}.sums"], [f"{name}.floats"], to=TensorProto.FLOAT),
        ]
        if len(node.input) > 2:
            bias = numpy_helper.to_array(constants[node.input[2]]).reshape(1, -1, 1, 1)
            added.append(numpy_helper.from_array(bias, f"{name}.bias"))
            nodes.append(helper.make_node("Mul", [f"{name}.floats", f"{name}.scale"], [f"{name}.scaled"]))
            nodes.append(helper.make_node("Add", [f"{name}.scaled", f"{name}.bias"], [name]))
        else:
            nodes.append(helper.make_node("Mul", [f"{name}.floats", f"{name}.scale"], [name]))
        changed += 1
    for name, value in ((_ZERO, 0), (_ONE, 1)):
        added.append(numpy_helper.from_array(np.array(value, np.uint8), name))
    del graph.node[:]
    graph.node.extend(nodes)
    graph.initializer.extend(added)
    _drop_unused(graph)
    return changed


def _drop_unused(graph: onnx.GraphProto) -> None:
    """Remove operators and constants that nothing reads any more."""
    while True:
        read = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
        kept = [node for node in graph.node if read.intersection(node.output)]
        if len(kept) == len(graph.node):
            break
        del graph.node[:]
        graph.node.extend(kept)
    constants = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.initializer[:]
    graph.initializer.extend(constants)


def layer(channels: int, height: int, width: int, side: int) -> onnx.ModelProto:
    """A comparison and a binary convolution of a map onto itself, with scale and bias."""
    rng = np.random.default_rng(0)
    scale = rng.uniform(0.01, 0.1, (channels, 1, 1, 1)).astype(np.float32)
    kernel = np.where(rng.random((channels, channels, side, side)) < 0.5, -scale, scale).astype(np.float32)
    constants = {
        "beta": rng.standard_normal((1, channels, 1, 1)).astype(np.float32),
        "w": kernel,
        "b": rng.standard_normal(channels).astype(np.float32),
    }
    nodes = [
        helper.make_node("Less", ["x", "beta"], ["negative"]),
        helper.make_node("Cast", ["negative"], ["t"], to=TensorProto.FLOAT),
        helper.make_node("Conv", ["t", "w", "b"], ["y"], pads=[side // 2] * 4, kernel_shape=[side, side]),
    ]
    shape = [1, channels, height, width]
    graph = helper.make_graph(
        nodes,
        "layer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def take_turns(
    forms: dict[str, bytes], shape: list[int], rounds: int, runs: int, least: float = 0.999
) -> dict[str, list[float]]:
    """Milliseconds of an inference, ``rounds`` for every form; all must correlate with the first at ``least``."""
    sessions = {name: _session(model) for name, model in forms.items()}
    image = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    times: dict[str, list[float]] = {name: [] for name in forms}
    answers: dict[str, Any] = {}
    for turn in range(rounds + 1):
        order = list(sessions)
        for name in order[turn % len(order) :] + order[: turn % len(order)]:
            feed = {sessions[name].get_inputs()[0].name: image}
            started = time.perf_counter()
            for _ in range(runs):
                (answers[name],) = sessions[name].run(None, feed)
            if turn:  # the first warms up
                times[name].append(1000 * (time.perf_counter() - started) / runs)
    first = answers[next(iter(forms))]
    for name, answer in answers.items():
        correlation = np.corrcoef(first.ravel(), answer.ravel())[0, 1]
        if not correlation > least:
            sys.exit(f"onnx_forms: {name} computes something else (correlation {correlation:.4f}).")
    return times


def _row(name: str, times: dict[str, list[float]]) -> str:
    base = np.array(next(iter(times.values())))
    cells = [f"{np.median(values):.2f} ms, {np.median(base / np.array(values)):.2f}×" for values in times.values()]
    return f"| {name} | {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a checkpoint or a bundled name")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--layers-only", action="store_true")
    arguments = parser.parse_args()

    print(f"ONNX Runtime {onnxruntime.__version__}, one thread; speed over the first form\n")
    print("| layer | Conv | ConvInteger |\n|---|---|---|")
    for channels, height, width, side in _LAYERS:
        plain, integers = (layer(channels, height, width, side) for _ in range(2))
        if as_integers(integers) != 1:
            sys.exit("onnx_forms: the layer has no integer form.")
        forms = {"Conv": plain.SerializeToString(), "ConvInteger": integers.SerializeToString()}
        times = take_turns(forms, [1, channels, height, width], arguments.rounds, _LAYER_RUNS)
        print(_row(f"{side}×{side}, {channels} channels, {height}×{width}", times), flush=True)
    if arguments.layers_only:
        return

    checkpoint = load_checkpoint(arguments.model)
    network = checkpoint.build()
    plain_bytes = export_onnx(network, checkpoint.metadata, "plain")
    integer_model = onnx.load_model_from_string(plain_bytes)
    changed = as_integers(integer_model)
    forms = {
        "plain": plain_bytes,
        "packed": export_onnx(network, checkpoint.metadata, "packed"),
        "ConvInteger": integer_model.SerializeToString(),
    }
    shape = [1, 3, checkpoint.metadata.input_height, checkpoint.metadata.input_width]
    times = take_turns(forms, shape, arguments.rounds, 1)
    print(f"\n{checkpoint.metadata.name}, {changed} binary convolutions\n\n| | plain | packed | ConvInteger |")
    print(f"|---|---|---|---|\n{_row('one image', times)}")
    sizes, seconds, memory = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        for name, model in forms.items():
            path = Path(folder) / f"{name}.onnx"
            path.write_bytes(model)
            found = subprocess.run([sys.executable, "-c", _LOADING, str(path)], capture_output=True, check=True)
            loading = json.loads(found.stdout)
            sizes.append(f"{len(model) / 1e6:.2f} MB")
            seconds.append(f"{loading['seconds']:.2f} s")
            memory.append(f"{loading['mib']:.0f} MiB")
    for name, cells in (("file", sizes), ("loading", seconds), ("memory at the peak", memory)):
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
