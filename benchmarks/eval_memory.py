"""Peak memory of ``bihrnet-edge eval`` on many synthetic people: COCO's joints, OKS, predictions and resume file.

    python benchmarks/eval_memory.py --people 100000

The network is one convolution, so that what is measured is reading, cropping, decoding and scoring; ``--empty`` people
say what a run takes before its first image.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
from PIL import Image

from bihrnet_edge.pose.keypoints import COCO
from bihrnet_edge.pose.metadata import METADATA_KEY, PoseMetadata

_HEIGHT, _WIDTH = 32, 24
_PEOPLE_PER_IMAGE = 4


def write_model(path: Path) -> None:
    """One convolution of stride 4 to 17 heatmaps."""
    joints = len(COCO)
    kernel = np.random.default_rng(0).standard_normal((joints, 3, 4, 4)).astype(np.float32)
    shapes = {"images": ["N", 3, _HEIGHT, _WIDTH], "heatmaps": ["N", joints, _HEIGHT // 4, _WIDTH // 4]}
    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Conv", ["images", "kernel"], ["heatmaps"], strides=[4, 4])],
        "one",
        ends[:1],
        ends[1:],
        [onnx.numpy_helper.from_array(kernel, "kernel")],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
    onnx.helper.set_model_props(model, {METADATA_KEY: PoseMetadata("one", _HEIGHT, _WIDTH, COCO).to_json()})
    onnx.save(model, str(path))


def write_people(folder: Path, count: int) -> None:
    """``people.json`` and an image for every four of them."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    images, annotations = [], []
    for i in range(count):
        image = i // _PEOPLE_PER_IMAGE
        if i % _PEOPLE_PER_IMAGE == 0:
            name = f"{image:06d}.jpg"
            images.append({"id": image, "file_name": name, "width": 64, "height": 48})
            Image.fromarray(rng.integers(0, 255, (48, 64, 3), np.uint8)).save(folder / "images" / name)
        points = np.concatenate([rng.uniform(4, 40, (17, 2)).round(1), np.full((17, 1), 2.0)], axis=1)
        annotations.append(
            {"id": i + 1, "image_id": image, "category_id": 1, "keypoints": points.ravel().tolist(), "iscrowd": 0,
             "bbox": [2.0, 2.0, 40.0, 40.0], "area": 1600.0, "num_keypoints": 17}
        )  # fmt: skip
    category = {"id": 1, "name": "person", "keypoints": list(COCO.keypoints), "skeleton": []}
    (folder / "people.json").write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": [category]})
    )


def peak(folder: Path, model: Path) -> float:
    """MiB of one run; the largest of the children so far."""
    command = [
        sys.executable, "-m", "bihrnet_edge", "eval", str(model), "--annotations", str(folder / "people.json"),
        "--images", str(folder / "images"), "--threads", "1", "--save-predictions", str(folder / "predictions.json"),
        "--resume", str(folder / "partial.npz"),
    ]  # fmt: skip
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=100_000)
    parser.add_argument("--empty", type=int, default=8)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        write_model(root / "one.onnx")
        for count in sorted((arguments.empty, arguments.people)):
            folder = root / str(count)
            write_people(folder, count)
            started = time.perf_counter()
            print(f"{count} people: peak {peak(folder, root / 'one.onnx'):.0f} MiB", end="", flush=True)
            print(f", {time.perf_counter() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
