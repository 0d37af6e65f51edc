"""Write the models of the native tests, with inputs and the outputs of LCE's interpreter, and the fuzzer's seeds.

Each ``models/NAME.tflite`` has files ``NAME.0.io``, ``NAME.1.io``...: what goes in and what must come out, all little
endian: the number of inputs, and for each its TfLiteType, rank, sizes and bytes; then the same for the outputs. Files
after the first have another input size, to be set by resizing. Needs tensorflow and larq-compute-engine.
"""

from __future__ import annotations

import argparse
import shutil
import struct
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[2] / "tests" / "runtimes" / "native"))

from lce_models import Bconv, GraphBuilder, random_inputs, run_lce  # noqa: E402
from model_graphs import EXTREMES, GRAPHS, Build, Shape  # noqa: E402

TFLITE_TYPES = {"float32": 1, "int32": 2, "bool": 6, "int8": 9}
SHAPE = (1, 5, 7)
LARGEST = 60_000  # bytes of a model
FUZZ_HEADER = bytes([2, 0, 0, 0, 0, 0, 0, 7])  # the fuzzer's own choices in front of the model: see fuzz_input.h

BCONVS = {
    "same": Bconv(),
    "pad_zero": Bconv(pad_values=0),
    "pad_zero_dilated": Bconv(pad_values=0, dilation=(2, 2), stride=(2, 1), channels_in=6),
    "valid": Bconv(padding="VALID"),
    "stride": Bconv(stride=(2, 2)),
    "stride_3x2": Bconv(stride=(3, 2), padding="VALID"),
    "dilation": Bconv(dilation=(2, 2)),
    "dilation_past_border": Bconv(dilation=(5, 11)),
    "relu": Bconv(activation="RELU"),
    "relu6": Bconv(activation="RELU6"),
    "relu_n1_to_1": Bconv(activation="RELU_N1_TO_1"),
    "int8_relu": Bconv(output="int8", activation="RELU", scale=0.031, zero_point=7),
    "bits": Bconv(output="int32"),
    "bits_40": Bconv(output="int32", channels_out=40, dequantize=True),
    "bits_from_bits": Bconv(source="int32", output="int32"),
    "bits_extreme": Bconv(
        output="int32",
        channels_out=6,
        replace={"thresholds": np.array([-1, 0, 575, 576, -(2**31), 2**31 - 1], np.int32)},
    ),
    "int8": Bconv(output="int8"),
    "int8_saturates": Bconv(output="int8", scale=0.01, zero_point=100, replace={"bias": np.linspace(-3, 3, 32)}),
    "from_int8": Bconv(source="int8"),
    "from_bits": Bconv(source="int32", channels_in=32),
    "groups": Bconv(groups=2, channels_in=128),
    "groups_bits": Bconv(groups=4, channels_in=128, output="int32", padding="VALID"),
    "groups_3": Bconv(groups=3, channels_in=96, channels_out=12),
    "pointwise": Bconv(kernel=(1, 1), channels_in=96, channels_out=20),
    "kernel_5x2": Bconv(kernel=(5, 2), channels_in=9, channels_out=3),
    "kernel_7x7": Bconv(kernel=(7, 7), channels_in=16, channels_out=8),
    "one_channel": Bconv(channels_in=1, channels_out=1),
    "one_pixel": Bconv(height=1, width=1, channels_in=32),
    "wide": Bconv(height=2, width=150, channels_in=8, channels_out=7),
    "batch": Bconv(batch=3, channels_in=24, channels_out=12),
    "deep": Bconv(channels_in=512, channels_out=5, height=4, width=4),
}
#: Odd channel counts on both sides.
BCONVS |= {f"{a}_to_{b}": Bconv(channels_in=a, channels_out=b) for a, b in ((3, 5), (31, 33), (33, 31), (70, 70))}
#: Models that are resized too, and to what.
RESIZED = {
    "bconv_same": [(1, 3, 4), (3, 8, 5)],
    "bconv_stride": [(2, 8, 8)],
    "bconv_bits_40": [(2, 17, 3)],
    "bconv_pad_zero": [(1, 10, 10)],
    "ms_block": [(1, 12, 5), (2, 3, 20)],
    "two_regions": [(3, 6, 6)],
    "integer_convs": [(2, 12, 6), (1, 1, 1)],
    "image_convs": [(2, 12, 6), (1, 5, 70)],
    "group_mean": [(2, 3, 17)],
    "max_pool_same": [(2, 6, 11)],
}


#: What the fuzzer starts from: small, and together every operator and every kind of option.
SEED_BCONVS = {
    "bconv": Bconv(channels_in=5, channels_out=3, height=3, width=4, stride=(2, 2)),
    "bconv_groups": Bconv(channels_in=64, channels_out=2, groups=2, height=3, width=3, kernel=(1, 1), pad_values=0),
    "bconv_bits": Bconv(channels_in=5, channels_out=3, height=3, width=4, output="int32", dequantize=True),
    "bconv_int8": Bconv(channels_in=5, channels_out=3, height=3, width=4, output="int8", dilation=(2, 2)),
    "bconv_not_finite": Bconv(
        channels_in=5,
        channels_out=3,
        height=3,
        width=4,
        output="int8",
        replace={"multiplier": np.array([np.nan, np.inf, 3e38]), "bias": np.array([1, -np.inf, 1])},
    ),
}
SEED_GRAPHS = ("ms_block", "two_regions", "integer_convs", "image_convs", "group_mean", "average_pool_valid",
               "upsample", "gate", "rounding", "max_pool_same", "dequantize_int8", "many_uses", "relus", "two_inputs",
               "residuals", "arithmetic", "upsample_more")  # fmt: skip


def build_graph(build: Build, shape: Shape, *, every_field: bool = False) -> bytes:
    """One of GRAPHS as a file."""
    graph = GraphBuilder()
    outputs = build(graph, shape)
    return graph.finish(*outputs, every_field=every_field)


def build_model(name: str, shape: Shape | None = None) -> bytes:
    """A model by its name, in its own input size or another."""
    if name in GRAPHS:
        return build_graph(GRAPHS[name], shape or SHAPE)
    spec = BCONVS[name.removeprefix("bconv_")]
    if shape:
        spec = replace(spec, batch=shape[0], height=shape[1], width=shape[2])
    return spec.model()


def pack_values(arrays: Sequence[NDArray[Any]]) -> bytes:
    """Half of an .io file."""
    parts = [struct.pack("<i", len(arrays))]
    for array in arrays:
        parts.append(struct.pack(f"<{2 + array.ndim}i", TFLITE_TYPES[array.dtype.name], array.ndim, *array.shape))
        parts.append(np.ascontiguousarray(array).tobytes())
    return b"".join(parts)


def write_models(folder: Path) -> None:
    """All models with their inputs and outputs."""
    for name in [f"bconv_{key}" for key in BCONVS] + list(GRAPHS):
        for case, shape in enumerate([None, *RESIZED.get(name, [])]):
            model = build_model(name, shape)
            inputs = random_inputs(model, seed=case)
            if case == 0:
                if len(model) > LARGEST:
                    raise SystemExit(f"{name} has {len(model)} bytes; keep the test models below {LARGEST}")
                (folder / f"{name}.tflite").write_bytes(model)
            (folder / f"{name}.{case}.io").write_bytes(pack_values(inputs) + pack_values(run_lce(model, inputs)))


def write_seeds(folder: Path) -> None:
    """The fuzzer's first inputs."""
    for kind in ("model", "flexbuffer"):
        (folder / kind).mkdir(exist_ok=True)
    models = {name: spec.model(every_field=True) for name, spec in SEED_BCONVS.items()}
    seeds = {name: GRAPHS[name] for name in SEED_GRAPHS} | EXTREMES
    models |= {name: build_graph(build, (1, 3, 4), every_field=True) for name, build in seeds.items()}
    for name, model in models.items():
        (folder / "model" / name).write_bytes(FUZZ_HEADER + model)
        for number, operator in enumerate(schema.ModelT.InitFromPackedBuf(model, 0).subgraphs[0].operators):
            if name.startswith(("bconv", "max_pool")) and operator.customOptions is not None:
                content = bytes(operator.customOptions)
                (folder / "flexbuffer" / f"{name}_{number}").write_bytes(content)


def main() -> None:
    """Write both folders anew."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, default=HERE / "models")
    parser.add_argument("--seeds", type=Path, default=HERE.parent / "fuzz" / "corpus")
    arguments = parser.parse_args()
    for folder in (arguments.models, arguments.seeds):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    write_models(arguments.models)
    write_seeds(arguments.seeds)


if __name__ == "__main__":
    main()
