"""The whole path on the bundled checkpoint: export, check, sizes and latencies, a picture with its skeleton.

Labelled images for the accuracy check are looked for in ``$BIHRNET_DATA/lspet`` or ``../shared/data/lspet``;
where there are none the artifacts are compared with torch on synthetic images, and the demo says so.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from bihrnet_edge.console import megabytes, print_table, progress_steps
from bihrnet_edge.errors import AccuracyGateError, UserError
from bihrnet_edge.export.pipeline import CheckSet, export_checkpoint
from bihrnet_edge.model.zoo import bundled_path
from bihrnet_edge.runtimes.bench import bench
from bihrnet_edge.runtimes.predict import parse_box, predict_file
from bihrnet_edge.runtimes.registry import open_runner

CHECKPOINT = "bihrnet-small-lsp"
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--limit", type=int, default=None, help="check on the first N people only")
    parser.add_argument("--runs", type=int, default=30, help="timed inferences of each artifact")
    arguments = parser.parse_args()

    check = find_check_set(arguments.limit)
    with progress_steps() as step:
        report = export_checkpoint(CHECKPOINT, ["lce-arm64", "onnx"], arguments.out, check=check, step=step)
        if report.failure:
            raise AccuracyGateError(report.failure)
        artifacts = [str(artifact.path) for artifact in report.artifacts]
        with step("bench") as advance:
            done: list[str] = []

            def count(result: object) -> None:
                done.append(str(result))
                advance(len(done), len(artifacts) + 1)

            timings = {r.model: r for r in bench([CHECKPOINT, *artifacts], [1], arguments.runs, progress=count)}
        with step("predict"):
            from PIL import Image
            from skimage.data import astronaut

            photograph = arguments.out / "astronaut.png"
            Image.fromarray(astronaut()).save(photograph)
            with open_runner(artifacts[0], threads=1) as runner:
                written = predict_file(runner, photograph, [parse_box(ASTRONAUT_BOX)], arguments.out, 0.1)

    def row(label: str, model: str, size: int, agreement: str, metric: float | None) -> list[str]:
        timing = timings[model]
        value = "-" if metric is None else f"{metric:.2f}"
        return [label, megabytes(size), timing.runtime, f"{timing.p50_ms:.1f}", agreement, value]

    source = bundled_path(CHECKPOINT)
    assert source is not None, f"{CHECKPOINT} ships with the package"
    rows = [row(f"{CHECKPOINT} (packed checkpoint)", CHECKPOINT, source.stat().st_size, "-", report.torch_metric)]
    for artifact in report.artifacts:
        agreement = f"{min(artifact.agreement.correlations):.5f}"
        rows.append(row(str(artifact.path), str(artifact.path), artifact.size_bytes, agreement, artifact.metric))
    size = f"{report.metadata.input_height}×{report.metadata.input_width}"
    checked = f"{report.check['people']} people" if check else "synthetic images"
    print_table(
        f"{CHECKPOINT}, input {size}, compared on {checked}, one thread on this machine",
        ["model", "size", "runtime", "p50 ms", "min correlation", report.metric_name or "metric"],
        rows,
    )
    if check is None:
        print("No labelled images were found, so the accuracy was not measured; see README, 'Accuracy check'.")
    print(f"report: {report.path}\npicture: {written[1]}")


if __name__ == "__main__":
    try:
        main()
    except (UserError, AccuracyGateError) as error:
        print(f"demo: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
