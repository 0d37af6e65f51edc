"""How long a bihrnet-w32 takes to export, how large it is, and how closely it follows torch.

Random weights and randomised BatchNorm statistics, 256x192. Prints the seconds of each step, the LCE total
(imports, rebuild, conversion), sizes, op counts and the agreement on synthetic images; exits with 1 where a
bound of the project is missed.

Example: python benchmarks/export_w32.py --targets lce-arm64
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from pathlib import Path

from bihrnet_edge.console import progress_steps
from bihrnet_edge.export.pipeline import export_checkpoint
from bihrnet_edge.model.checkpoint import random_checkpoint, save_checkpoint
from bihrnet_edge.model.config import preset
from bihrnet_edge.model.exact import make_exact
from bihrnet_edge.pose.keypoints import COCO

MAX_SECONDS, MAX_BYTES, MIN_CORRELATION = 90.0, 5_000_000, 0.999


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--targets", nargs="+", default=["lce-arm64", "onnx"])
    parser.add_argument("--preset", default="bihrnet-w32")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--exact", action="store_true", help="export the exact form (bihrnet_edge.model.exact)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        checkpoint = random_checkpoint(
            preset(arguments.preset), name=arguments.preset, keypoints=COCO, input_size=(256, 192), seed=arguments.seed
        )
        save_checkpoint(folder / "model.pt", make_exact(checkpoint) if arguments.exact else checkpoint)
        with progress_steps() as step:
            report = export_checkpoint(str(folder / "model.pt"), arguments.targets, folder / "out", step=step)
    seconds = report.seconds
    total = sum(seconds.get(key, 0.0) for key in ("import_tensorflow", "build_larq", "convert_lce"))
    result = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "seconds": seconds,
        "lce_export_seconds": round(total, 1),
        "artifacts": {
            a.key: {"bytes": a.size_bytes, "rejected": a.rejected, "ops": a.ops, **a.agreement.to_dict()}
            for a in report.artifacts
        },
    }
    print(json.dumps(result, indent=2))
    missed = []
    for artifact in report.artifacts:
        if min(artifact.agreement.correlations) < MIN_CORRELATION:
            missed.append(f"{artifact.key}: correlation {min(artifact.agreement.correlations):.6f} < {MIN_CORRELATION}")
        if artifact.key == "lce" and artifact.size_bytes > MAX_BYTES:
            missed.append(f"lce: {artifact.size_bytes} bytes > {MAX_BYTES}")
    if total > MAX_SECONDS:
        missed.append(f"lce: {total:.1f} s > {MAX_SECONDS} s")
    print("\n".join(missed) or "every bound is kept", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
