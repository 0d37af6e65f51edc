"""Joints of people in picture files: a JSON file and a drawn picture each."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image

from bihrnet_edge.console import write_json
from bihrnet_edge.files import make_folder, write_bytes
from bihrnet_edge.pose.crop import read_image
from bihrnet_edge.pose.draw import draw_poses
from bihrnet_edge.runtimes.base import Runner
from bihrnet_edge.runtimes.estimator import PoseEstimator
from bihrnet_edge.runtimes.people import Box, describe_people, whole_picture


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
    used = boxes or [whole_picture(image, runner.metadata)]
    poses = PoseEstimator(runner).predict(image, used)
    keypoints = runner.metadata.keypoints
    make_folder(out)
    listing, picture = out / f"{path.stem}.keypoints.json", out / f"{path.stem}.pose.png"
    content = {
        "image": str(path), "width": width, "height": height, "model": runner.metadata.name,
        "people": describe_people(used, poses, keypoints),
        "skeleton": [list(limb) for limb in keypoints.skeleton],
    }  # fmt: skip
    write_json(listing, content)
    buffer = io.BytesIO()
    Image.fromarray(draw_poses(image, poses, keypoints, threshold)).save(buffer, "PNG")
    write_bytes(picture, buffer.getvalue())
    return [listing, picture]
