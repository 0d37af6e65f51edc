"""What a model that ignores its image can score on a validation split: the best constant pose of the training split.

Every joint is put where it lies on average (mean, or median) in the padded person box of the training split.
Prints the metric of both; a trained model has to beat the better one clearly.

Example: python benchmarks/constant_pose.py $BIHRNET_DATA/lspet
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bihrnet_edge.data.dataset import PoseDataset, load_annotations
from bihrnet_edge.metrics.pck import metric_for
from bihrnet_edge.pose.crop import box_to_crop

_UNIT = (1, 1)


def constant_pose(
    train: PoseDataset, reduce: Callable[[NDArray[Any]], NDArray[Any]], aspect: float
) -> NDArray[np.float64]:
    """Each joint's typical place ``(K, 2)`` in the padded box, 0 to 1."""
    places: list[list[NDArray[np.float64]]] = [[] for _ in train.keypoints.keypoints]
    for person in train.people:
        points = box_to_crop(person.box, aspect).to_input(person.keypoints, _UNIT)
        for joint in np.flatnonzero(person.visible):
            places[joint].append(points[joint])
    return np.stack([reduce(np.array(points)) for points in places])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="holds person_keypoints_{train,val}.json and images/")
    parser.add_argument("--aspect", type=float, default=1.0, help="width over height of the crop")
    arguments = parser.parse_args()
    train, val = (
        load_annotations(arguments.folder / f"person_keypoints_{split}.json", arguments.folder / "images")
        for split in ("train", "val")
    )
    metric = metric_for(val.keypoints)
    for name, reduce in (("mean", lambda p: p.mean(axis=0)), ("median", lambda p: np.median(p, axis=0))):
        pose = constant_pose(train, reduce, arguments.aspect)
        predictions = np.stack([box_to_crop(p.box, arguments.aspect).to_image(pose, _UNIT) for p in val.people])
        print(f"{name:>6} pose: {metric.name} {metric(predictions, val.people).mean:.2f} on {len(val)} people")


if __name__ == "__main__":
    main()
