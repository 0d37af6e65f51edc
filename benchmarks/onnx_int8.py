"""What ONNX Runtime's own static quantizer makes of an ``.onnx``: speed, size and accuracy.

    python benchmarks/onnx_int8.py model.pt --annotations val.json --images images [--calibration 64] [--people 250]

The real-valued rest is quantised by ``quantize_static`` (QDQ, bytes at min-max ranges of calibration people from the
end of the annotation file): the real-valued convolutions alone, or these and every addition, product, pool and join
between. Binary convolutions stay floats, on which they are exact. Forms take turns; a ratio is the median of those
within a turn. The metric is measured on the first people of the file, none of whose images calibrated.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper
from onnx_forms import take_turns
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from bihrnet_edge.calibration.verification import compare_on_people
from bihrnet_edge.data.dataset import load_annotations
from bihrnet_edge.export.onnx_model import export_onnx
from bihrnet_edge.export.weights import binary_magnitude
from bihrnet_edge.model.checkpoint import load_checkpoint
from bihrnet_edge.runtimes.crops import person_batches
from bihrnet_edge.runtimes.registry import open_runner

_BATCH = 8
#: Correlation of a form's heatmaps of noise with the floats': rounding flips signs, and noise is all near thresholds.
_LEAST = 0.5
_BETWEEN = ["Add", "Mul", "AveragePool", "Concat", "Resize", "Slice"]


class _People(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, batches: Iterator[np.ndarray]) -> None:
        self._batches = batches

    def get_next(self) -> dict[str, np.ndarray] | None:
        images = next(self._batches, None)
        return None if images is None else {"images": np.ascontiguousarray(images.transpose(0, 3, 1, 2))}


def real_convolutions(model: onnx.ModelProto) -> list[str]:
    """Names of the convolutions whose kernels are not one magnitude a channel."""
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    return [
        node.name
        for node in model.graph.node
        if node.op_type == "Conv" and binary_magnitude(constants[node.input[1]]) is None
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--annotations", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--calibration", type=int, default=64)
    parser.add_argument("--people", type=int, default=250)
    parser.add_argument("--rounds", type=int, default=60)
    arguments = parser.parse_args()
    checkpoint = load_checkpoint(arguments.model)
    dataset = load_annotations(arguments.annotations, arguments.images)
    measured = {person.image_path for person in dataset.people[: arguments.people]}
    calibrating = [person for person in dataset.people[-arguments.calibration :] if person.image_path not in measured]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = {"float": folder / "float.onnx"}
        paths["float"].write_bytes(export_onnx(checkpoint.build(), checkpoint.metadata, "plain"))
        quant_pre_process(str(paths["float"]), str(folder / "prepared.onnx"), skip_symbolic_shape=True)
        prepared = onnx.load(folder / "prepared.onnx")
        convolutions = real_convolutions(prepared)
        between = [node.name for node in prepared.graph.node if node.op_type in _BETWEEN]
        for form, nodes in (("convolutions", convolutions), ("all between", convolutions + between)):
            paths[form] = folder / f"{form}.onnx"
            batches = (images for _, images, _ in person_batches(calibrating, checkpoint.metadata, _BATCH))
            quantize_static(
                str(folder / "prepared.onnx"), str(paths[form]), _People(batches), quant_format=QuantFormat.QDQ,
                nodes_to_quantize=nodes, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
                per_channel=True,
            )  # fmt: skip
        models = {form: path.read_bytes() for form, path in paths.items()}
        shape = [1, 3, checkpoint.metadata.input_height, checkpoint.metadata.input_width]
        times = take_turns(models, shape, arguments.rounds, 1, _LEAST)
        with ExitStack() as stack:
            runners = {form: stack.enter_context(open_runner(str(path), 1)) for form, path in paths.items()}
            _, _, metrics, drops = compare_on_people(
                runners["float"], runners, dataset, arguments.people, lambda done, total: None
            )
        print(f"{len(convolutions)} real-valued convolutions, {len(between)} operators between")
        print(f"{'form':14} {'ms':>8} {'factor':>7} {'MB':>8} {'metric':>7}  drop, 95 %")
        for form, model in models.items():
            factor = np.median(np.array(times["float"]) / np.array(times[form]))
            drop = drops[form].drop
            print(
                f"{form:14} {np.median(times[form]):8.2f} {factor:6.2f}x {len(model) / 1e6:8.2f} {metrics[form]:7.2f}"
                f"  {drop.value:.2f} ({drop.low:.2f} to {drop.high:.2f})"
            )


if __name__ == "__main__":
    main()
