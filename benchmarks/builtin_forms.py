"""What a built-in-op ``.tflite`` weighs and loses in each of its precisions.

    python benchmarks/builtin_forms.py bihrnet-small-lsp --ranges ranges.json --out forms
    bihrnet-edge bench forms/lce.tflite forms/float32.tflite forms/int8.tflite ...
    bihrnet-edge check bihrnet-small-lsp forms/float32.tflite forms/int8.tflite ... --annotations val.json --images DIR

Writes the forms as files, for ``bench`` and ``check`` to measure, beside the ``.lce.tflite`` (``lce.tflite``) and the
``.onnx``. Prints their sizes; which operators XNNPACK leaves to TensorFlow Lite's own kernels; and the largest
difference of a heatmap pixel to torch's, as a share of their range. ``int8`` and ``int8-convolutions``, which quantises
what goes into and out of binary convolutions and nothing else, need ranges.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bihrnet_edge.calibration.ranges import Ranges, read_ranges
from bihrnet_edge.calibration.scales import Grid
from bihrnet_edge.calibration.verification import synthetic_images
from bihrnet_edge.export.builtin import export_builtin
from bihrnet_edge.export.builtin_form import BuiltinForm, BuiltinPrecision
from bihrnet_edge.export.builtin_model import BuiltinBuilder
from bihrnet_edge.export.larq_int8 import checkpoint_grids
from bihrnet_edge.export.larq_layers import FakeQuant
from bihrnet_edge.export.larq_model import build_larq_model
from bihrnet_edge.export.lce import convert_to_lce
from bihrnet_edge.export.onnx_model import export_onnx
from bihrnet_edge.export.tflite_metadata import embed_metadata
from bihrnet_edge.model.checkpoint import Checkpoint, load_checkpoint
from bihrnet_edge.runtimes.registry import open_runner
from bihrnet_edge.runtimes.torch_runtime import TorchRunner

_IMAGES = 4
_FLOAT: tuple[BuiltinPrecision, ...] = ("float32", "float16", "dynamic")


class Int8Convolutions(BuiltinBuilder):
    """Binary convolutions from int8 to int8, and floats between them."""

    def __init__(self, config: Any, store: Any, grids: Mapping[str, Grid]) -> None:
        super().__init__(config, store)
        self._grids = grids

    def threshold(self, x: Any, name: str) -> Any:
        return FakeQuant(1 / 255, -128, name=f"{name}.int8")(super().threshold(x, name))

    def emit(self, name: str, operation: Any, y: Any, inputs: Any, *rest: Any, **options: Any) -> Any:
        grid = self._grids[name]
        return FakeQuant(grid.scale, grid.zero_point, name=f"{name}.int8")(y) if operation == "unit" else y


def write_forms(checkpoint: Checkpoint, ranges: Ranges | None, folder: Path) -> list[Path]:
    """The files, named for their form."""
    metadata = checkpoint.metadata
    size = metadata.input_height, metadata.input_width
    models = {"lce": convert_to_lce(build_larq_model(checkpoint.config, checkpoint.state, *size))}
    for precision in _FLOAT:
        models[precision] = export_builtin(checkpoint, BuiltinForm(precision))
    if ranges is not None:
        models["int8"] = export_builtin(checkpoint, BuiltinForm("int8", ranges))
        builder: Any = partial(Int8Convolutions, grids=checkpoint_grids(checkpoint, ranges.activations))
        model = build_larq_model(checkpoint.config, checkpoint.state, *size, builder=builder)
        models["int8-convolutions"] = convert_to_lce(model)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, data in models.items():
        paths.append(folder / f"{name}.tflite")
        paths[-1].write_bytes(embed_metadata(data, metadata))
    paths.append(folder / "plain.onnx")
    paths[-1].write_bytes(export_onnx(checkpoint.build(), metadata, "plain"))
    return paths


def left_by_xnnpack(data: bytes) -> str:
    """Operators that TensorFlow Lite runs itself: those whose results something outside of XNNPACK's parts gives."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=data, num_threads=1)
    interpreter.allocate_tensors()
    operators = interpreter._get_ops_details()
    parts = [op for op in operators if op["op_name"] == "DELEGATE"]
    made = {index for part in parts for index in part["outputs"]}
    needed = {index for part in parts for index in part["inputs"]}
    needed |= {detail["index"] for detail in interpreter.get_output_details()}
    found: Counter[str] = Counter()
    for op in reversed([op for op in operators if op["op_name"] != "DELEGATE"]):
        if any(index in needed and index not in made for index in op["outputs"]):
            found[op["op_name"]] += 1
            needed |= set(op["inputs"])
    return ", ".join(f"{count} {op}" for op, count in found.most_common())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a checkpoint or a bundled name")
    parser.add_argument("--ranges", type=Path, help="that `calibrate` saved")
    parser.add_argument("--out", type=Path, default=Path("forms"))
    arguments = parser.parse_args()

    checkpoint = load_checkpoint(arguments.model)
    paths = write_forms(checkpoint, read_ranges(arguments.ranges) if arguments.ranges else None, arguments.out)
    images = synthetic_images(checkpoint.metadata, _IMAGES)
    expected = TorchRunner.of(checkpoint.build(), checkpoint.metadata, 1).run(images)
    print("| form | file | outside XNNPACK | difference to torch |")
    print("|---|---|---|---|")
    for path in paths:
        left = "-" if path.stem in ("lce", "plain") else left_by_xnnpack(path.read_bytes())
        with open_runner(str(path)) as runner:
            difference = np.abs(runner.run(images) - expected).max() / np.ptp(expected)
        print(f"| {path.name} | {path.stat().st_size / 1e6:.2f} MB | {left or 'none'} | {difference:.1e} |")


if __name__ == "__main__":
    main()
