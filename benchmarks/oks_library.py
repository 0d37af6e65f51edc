"""pycocotools against faster-coco-eval on synthetic COCO keypoints: seconds, peak memory, equality of the numbers.

Each library runs in a process of its own, as published: one ground truth and one results list, ``evaluate``,
``accumulate``, ``summarize``. The third run is the chosen one as ``evaluate_oks`` feeds it, from arrays. Seconds are
the processor's, memory the growth of the peak over what the lists or arrays themselves take.

Example: python benchmarks/oks_library.py --annotations 100000 --detections 4
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.metadata
import io
import json
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from bihrnet_edge.data.results import KeypointResults
from bihrnet_edge.data.truth import TruthBuilder
from bihrnet_edge.metrics.oks import evaluate_oks

#: Distribution, module of COCO, module and name of the evaluator.
LIBRARIES = {
    "pycocotools": ("pycocotools.coco", "pycocotools.cocoeval", "COCOeval"),
    "faster-coco-eval": ("faster_coco_eval", "faster_coco_eval", "COCOeval_faster"),
}
OURS = "bihrnet-edge"
PER_IMAGE, JOINTS, SIZE = 4, 17, 640


Record = dict[str, Any]


def scenes(annotations: int, detections: int, seed: int) -> Iterator[tuple[list[Record], list[Record]]]:
    """Annotations and ``detections`` predictions of one image after the other.

    People of random size, 1 in 20 a crowd and 1 in 10 without joints.
    """
    rng = np.random.default_rng(seed)
    for image in range(1, annotations // PER_IMAGE + 1):
        truth: list[Record] = []
        results: list[Record] = []
        people = []
        for index in range(PER_IMAGE):
            side = float(rng.uniform(20, 300))
            corner = rng.uniform(0, SIZE - side, 2)
            joints = np.concatenate([corner + rng.uniform(0, side, (JOINTS, 2)), rng.integers(0, 3, (JOINTS, 1))], 1)
            joints[joints[:, 2] == 0] = 0
            if rng.random() < 0.1:
                joints[:] = 0
            people.append((joints, side))
            truth.append(
                {
                    "id": (image - 1) * PER_IMAGE + index + 1, "image_id": image, "category_id": 1,
                    "iscrowd": int(rng.random() < 0.05), "bbox": [*corner.tolist(), side, side],
                    "area": 0.6 * side * side, "keypoints": joints.ravel().tolist(),
                    "num_keypoints": int((joints[:, 2] > 0).sum()),
                }
            )  # fmt: skip
        for index in range(detections):
            joints, side = people[index % PER_IMAGE]
            moved = joints[:, :2] + rng.normal(0, 0.08 * side * rng.random(), (JOINTS, 2))
            results.append(
                {
                    "image_id": image, "category_id": 1, "score": float(rng.random()),
                    "keypoints": np.concatenate([moved, np.ones((JOINTS, 1))], axis=1).ravel().tolist(),
                }
            )  # fmt: skip
        yield truth, results


def _peak_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure_library(library: str, annotations: int, detections: int, seed: int) -> Record:
    """Run one library as published, in this process."""
    truth, results = [], []
    for annotated, predicted in scenes(annotations, detections, seed):
        truth += annotated
        results += predicted
    coco_module, eval_module, eval_name = LIBRARIES[library]
    coco_class = importlib.import_module(coco_module).COCO
    eval_class = getattr(importlib.import_module(eval_module), eval_name)
    before = _peak_megabytes()
    started = time.process_time()
    with contextlib.redirect_stdout(io.StringIO()):
        document = coco_class()
        document.dataset = {
            "info": {},
            "images": [{"id": i, "width": SIZE, "height": SIZE} for i in range(1, annotations // PER_IMAGE + 1)],
            "categories": [{"id": 1, "name": "person", "keypoints": ["joint"] * JOINTS, "skeleton": []}],
            "annotations": truth,
        }
        document.createIndex()
        evaluation = eval_class(document, document.loadRes(results), "keypoints")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return {
        "version": importlib.metadata.version(library),
        "cpu_seconds": round(time.process_time() - started, 1),
        "megabytes_over_lists": round(_peak_megabytes() - before),
        "peak_megabytes": round(_peak_megabytes()),
        "stats": [float(value) for value in evaluation.stats[:10]],
    }


def measure_ours(annotations: int, detections: int, seed: int) -> Record:
    """The chosen library as ``evaluate_oks`` feeds it, from arrays."""
    builder = TruthBuilder(JOINTS)
    image_ids: list[int] = []
    scores: list[float] = []
    keypoints = np.empty((annotations // PER_IMAGE * detections, JOINTS, 3))
    for annotated, predicted in scenes(annotations, detections, seed):
        for record in annotated:
            points = np.array(record["keypoints"]).reshape(JOINTS, 3)
            crowd = bool(record["iscrowd"])
            builder.add(
                record["image_id"], points, np.array(record["bbox"]), record["area"], crowd=crowd, malformed=False
            )
        for record in predicted:
            keypoints[len(image_ids)] = np.reshape(record["keypoints"], (JOINTS, 3))
            image_ids.append(record["image_id"])
            scores.append(record["score"])
    truth = builder.build(range(1, annotations // PER_IMAGE + 1))
    results = KeypointResults(np.array(image_ids), keypoints, np.array(scores))
    before = _peak_megabytes()
    started = time.process_time()
    result = evaluate_oks(truth, results)
    names = ("ap", "ap50", "ap75", "apm", "apl", "ar", "ar50", "ar75", "arm", "arl")
    return {
        "cpu_seconds": round(time.process_time() - started, 1),
        "megabytes_over_arrays": round(_peak_megabytes() - before),
        "peak_megabytes": round(_peak_megabytes()),
        "stats": [getattr(result, name) / 100 for name in names],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--annotations", type=int, default=100_000)
    parser.add_argument("--detections", type=int, default=4, help="an image of four people")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=[*LIBRARIES, OURS], help="run one, in this process")
    arguments = parser.parse_args()
    size = arguments.annotations, arguments.detections, arguments.seed
    if arguments.only:
        result = measure_ours(*size) if arguments.only == OURS else measure_library(arguments.only, *size)
        print(json.dumps(result))
        return 0
    report: Record = {
        "machine": f"{platform.machine()}, Python {platform.python_version()}, numpy {np.__version__}",
        "annotations": arguments.annotations,
        "predictions": arguments.annotations // PER_IMAGE * arguments.detections,
    }
    for name in (*LIBRARIES, OURS):
        done = subprocess.run(
            [sys.executable, __file__, "--only", name, "--annotations", str(arguments.annotations),
             "--detections", str(arguments.detections), "--seed", str(arguments.seed)],
            check=True, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        report[name] = json.loads(done.stdout)
    stats = np.array([report[name].pop("stats") for name in (*LIBRARIES, OURS)])
    report["stats"] = [round(value, 6) for value in stats[0].tolist()]
    report["largest_difference"] = float(np.abs(stats - stats[0]).max())
    print(json.dumps(report, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
