"""The whole path on the bundled checkpoint: export, check, sizes and latencies, a picture with its skeleton.

Labelled images for the accuracy check are looked for in ``$BIHRNET_DATA/lspet`` or ``../shared/data/lspet``;
where there are none the artifacts are compared with torch on synthetic images, and the demo says so.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from bihrnet_edge.calibration.agreement import Agreement
from bihrnet_edge.console import megabytes, print_table, progress_steps
from bihrnet_edge.errors import AccuracyGateError, UserError
from bihrnet_edge.export.pipeline import CheckSet, export_checkpoint
from bihrnet_edge.model.zoo import bundled_path
from bihrnet_edge.pose.metadata import PoseMetadata
from bihrnet_edge.runtimes.bench.process import Entry
from bihrnet_edge.runtimes.bench.run import bench
from bihrnet_edge.runtimes.delegate import find_library
from bihrnet_edge.runtimes.people import parse_box
from bihrnet_edge.runtimes.predict import predict_file
from bihrnet_edge.runtimes.registry import open_runner

CHECKPOINT = "bihrnet-small-lsp"
TWIN = "hrnet-small"
#: The person in scikit-image's picture, x, y, width, height.
ASTRONAUT_BOX = "60,0,330,500"


def find_check_set(limit: int | None) -> CheckSet | None:
    """The validation split of LSP-extended, where this machine has it."""
    root = Path(__file__).resolve().parents[1]
    for folder in (Path(os.environ.get("BIHRNET_DATA", "")), root.parent / "shared" / "data"):
        annotations = folder / "lspet" / "person_keypoints_val.json"
        if annotations.is_file():
            return CheckSet(annotations, annotations.parent / "images", limit)
    return None


def write_twin(path: Path, metadata: PoseMetadata) -> None:
    """The real-valued network of the same layout as the bundled one, with random weights: good for its latency only."""
    from bihrnet_edge.export.onnx_model import export_onnx
    from bihrnet_edge.model.checkpoint import random_checkpoint
    from bihrnet_edge.model.config import preset

    size = metadata.input_height, metadata.input_width
    config = preset(TWIN, keypoints=len(metadata.keypoints))
    twin = random_checkpoint(config, name=TWIN, keypoints=metadata.keypoints, input_size=size, seed=0)
    path.write_bytes(export_onnx(twin.build(), twin.metadata))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--limit", type=int, default=None, help="check on the first N people only")
    parser.add_argument("--runs", type=int, default=30, help="timed inferences of each artifact")
    arguments = parser.parse_args()

    check = find_check_set(arguments.limit)
    with progress_steps() as step, tempfile.TemporaryDirectory() as folder:
        report = export_checkpoint(CHECKPOINT, ["lce-arm64", "onnx"], arguments.out, check=check, step=step)
        if report.failure:
            raise AccuracyGateError(report.failure)
        binary, onnx = report.artifacts
        twin = Path(folder) / f"{TWIN}.onnx"
        with step("make the real-valued twin"):
            write_twin(twin, report.metadata)
        with_delegate = find_library() is not None
        contenders = [(CHECKPOINT, "torch"), (str(binary.path), "lce"), (str(onnx.path), "onnxruntime")]
        contenders += [(str(binary.path), "litert")] * with_delegate + [(str(twin), "onnxruntime")]
        with step("bench") as advance:
            results = bench([Entry(*contender) for contender in contenders], arguments.runs, progress=advance).results
            timings = {(result.model, result.runtime): result for result in results}
        with step("predict"):
            from PIL import Image
            from skimage.data import astronaut

            photograph = arguments.out / "astronaut.png"
            Image.fromarray(astronaut()).save(photograph)
            with open_runner(str(binary.path), threads=1) as runner:
                written = predict_file(runner, photograph, [parse_box(ASTRONAUT_BOX)], arguments.out, 0.1)
        twin_size = twin.stat().st_size

    def row(
        model: str, runtime: str, size: int, agreement: Agreement | None, metric: float | None, label: str = ""
    ) -> list[str]:
        timing = timings[model, runtime]
        correlation = "-" if agreement is None else f"{min(agreement.correlations):.5f}"
        value = "-" if metric is None else f"{metric:.2f}"
        name = "LCE's interpreter" if runtime == "lce" else timing.label
        return [label or model, megabytes(size), name, f"{timing.p50_ms:.1f}", correlation, value]

    source = bundled_path(CHECKPOINT)
    assert source is not None, f"{CHECKPOINT} ships with the package"
    label = f"{CHECKPOINT} (packed checkpoint)"
    rows = [row(CHECKPOINT, "torch", source.stat().st_size, None, report.torch_metric, label)]
    if with_delegate:
        agreement, metric = report.delegate_agreement, report.delegate_metric
        rows.append(row(str(binary.path), "litert", binary.size_bytes, agreement, metric))
    for artifact, runtime in ((binary, "lce"), (onnx, "onnxruntime")):
        rows.append(row(str(artifact.path), runtime, artifact.size_bytes, artifact.agreement, artifact.metric))
    label = f"{TWIN}, its real-valued twin (random weights, for the latency)"
    rows.append(row(str(twin), "onnxruntime", twin_size, None, None, label))
    size = f"{report.metadata.input_height}×{report.metadata.input_width}"
    checked = f"{report.check['people']} people" if check else "synthetic images"
    print_table(
        f"{CHECKPOINT}, input {size}, compared on {checked}, one thread on this machine",
        ["model", "size", "runtime", "p50 ms", "min correlation", report.metric_name or "metric"],
        rows,
    )
    if not with_delegate:
        print("This installation has no native delegate, which runs the .lce.tflite fast; see `bihrnet-edge doctor`.")
    if check is None:
        print("No labelled images were found, so the accuracy was not measured; see README, 'Accuracy check'.")
    print(f"report: {report.path}\npicture: {written[1]}")


if __name__ == "__main__":
    try:
        main()
    except (UserError, AccuracyGateError) as error:
        print(f"demo: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
