"""Joints of people in picture files: a JSON file and a drawn picture each."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bihrnet_edge.console import write_json
from bihrnet_edge.errors import UserError
from bihrnet_edge.files import make_folder, write_bytes
from bihrnet_edge.pose.crop import read_image
from bihrnet_edge.pose.draw import draw_poses
from bihrnet_edge.runtimes.base import Runner
from bihrnet_edge.runtimes.estimator import PoseEstimator

Box = tuple[float, float, float, float]


def parse_box(text: str) -> Box:
    """``x,y,width,height`` in pixels.

    Raises:
        UserError: not four numbers, or no area.
    """
    try:
        x, y, width, height = (float(part) for part in text.split(","))
    except ValueError as error:
        raise UserError(f"--box is {text!r}; give x,y,width,height in pixels, e.g. 40,10,200,400.") from error
    if not (np.isfinite([x, y, width, height]).all() and width > 0 and height > 0):
        raise UserError(f"--box is {text!r}; width and height must be above 0.")
    return x, y, width, height


def predict_file(runner: Runner, path: Path, boxes: list[Box], out: Path, threshold: float) -> list[Path]:
    """Write ``NAME.keypoints.json`` and ``NAME.pose.png`` into ``out``.

    Args:
        runner: the network.
        path: the picture; turned upright by its EXIF orientation.
        boxes: people in it; the whole picture is one person where there are none.
        out: folder, made where it does not exist.
        threshold: joints of a lower score are not drawn; the JSON holds all.

    Returns:
        The two files.

    Raises:
        UserError: the picture cannot be read, or the folder not be written.
    """
    image = read_image(path, upright=True)
    height, width = image.shape[:2]
    # The padding of a box is for what a detector cuts off; a picture taken whole has nothing beyond it.
    padding = runner.metadata.box_padding
    whole = (
        width / 2 - width / padding / 2, height / 2 - height / padding / 2, width / padding, height / padding,
    )  # fmt: skip
    used = boxes or [whole]
    poses = PoseEstimator(runner).predict(image, used)
    keypoints = runner.metadata.keypoints
    people: list[dict[str, Any]] = [
        {
            "box": [round(value, 2) for value in box],
            "score": float(pose[:, 2].mean()),
            "keypoints": [
                {"name": name, "x": round(float(x), 2), "y": round(float(y), 2), "score": round(float(score), 4)}
                for name, (x, y, score) in zip(keypoints.keypoints, pose, strict=True)
            ],
        }
        for box, pose in zip(used, poses, strict=True)
    ]
    make_folder(out)
    listing, picture = out / f"{path.stem}.keypoints.json", out / f"{path.stem}.pose.png"
    content = {
        "image": str(path), "width": width, "height": height, "model": runner.metadata.name, "people": people,
        "skeleton": [list(limb) for limb in keypoints.skeleton],
    }  # fmt: skip
    write_json(listing, content)
    buffer = io.BytesIO()
    Image.fromarray(draw_poses(image, poses, keypoints, threshold)).save(buffer, "PNG")
    write_bytes(picture, buffer.getvalue())
    return [listing, picture]
