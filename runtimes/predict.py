"""Joints of people in picture files: a JSON file, a drawn picture and a CSV file each."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from bihrnet_edge.console import write_json
from bihrnet_edge.errors import SourceError, UserError
from bihrnet_edge.files import make_folder, write_bytes, write_text
from bihrnet_edge.pose.crop import read_image
from bihrnet_edge.pose.draw import draw_poses
from bihrnet_edge.runtimes.base import Runner
from bihrnet_edge.runtimes.estimator import PoseEstimator
from bihrnet_edge.runtimes.listings import csv_text, joint_rows
from bihrnet_edge.runtimes.people import Box, describe_people, whole_picture
from bihrnet_edge.runtimes.video.capture import VIDEO_SUFFIXES

#: Files that a folder's pictures are told by: what Pillow reads and people have.
_PICTURE_SUFFIXES = frozenset([".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"])
#: What this module and its companion for videos call what they draw; no input, where a folder holds both.
_DRAWN = ".pose"


def find_sources(paths: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Pictures and videos among files and in folders, by their names; in a folder those of our own making are no input.

    Raises:
        UserError: a folder cannot be read or has neither, or two files are to have results of one name.
    """
    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        try:
            inside = sorted(
                file
                for file in path.iterdir()
                if file.suffix.lower() in _PICTURE_SUFFIXES | VIDEO_SUFFIXES and Path(file.stem).suffix != _DRAWN
            )
        except OSError as error:
            raise UserError(f"the folder {path} cannot be read ({error.strerror}); check its rights.") from error
        if not inside:
            raise UserError(f"the folder {path} holds no pictures and no videos; name another, or the files.")
        found += inside
    stems = Counter(path.stem for path in found)
    if twice := next((stem for stem, count in stems.items() if count > 1), None):
        raise UserError(f"two files are named {twice!r} and would write the same files; predict them separately.")
    videos = [path for path in found if path.suffix.lower() in VIDEO_SUFFIXES]
    return [path for path in found if path.suffix.lower() not in VIDEO_SUFFIXES], videos


def predict_file(
    runner: Runner,
    path: Path,
    boxes: list[Box] | None,
    out: Path,
    threshold: float,
    *,
    overlay: bool = True,
    table: bool = False,
) -> list[Path]:
    """Write ``NAME.keypoints.json``, ``NAME.pose.png`` and ``NAME.keypoints.csv`` into ``out``.

    Args:
        runner: the network.
        path: the picture; turned upright by its EXIF orientation.
        boxes: people in it, perhaps none; the whole picture is one person where it is None.
        out: folder, made where it does not exist.
        threshold: joints of a lower score are not drawn; JSON and CSV hold all.
        overlay: draw the picture.
        table: write the CSV file.

    Returns:
        The files.

    Raises:
        SourceError: the picture cannot be read.
        UserError: the folder cannot be written.
    """
    try:
        image = read_image(path, upright=True)
    except UserError as error:
        raise SourceError(str(error)) from error
    height, width = image.shape[:2]
    used = [whole_picture(image, runner.metadata)] if boxes is None else boxes
    poses = PoseEstimator(runner).predict(image, used)
    keypoints = runner.metadata.keypoints
    people = describe_people(used, poses, keypoints)
    make_folder(out)
    written = [out / f"{path.stem}.keypoints.json"]
    content = {
        "image": str(path), "width": width, "height": height, "model": runner.metadata.name, "people": people,
        "skeleton": [list(limb) for limb in keypoints.skeleton],
    }  # fmt: skip
    write_json(written[0], content)
    if overlay:
        written.append(out / f"{path.stem}{_DRAWN}.png")
        buffer = io.BytesIO()
        Image.fromarray(draw_poses(image, poses, keypoints, threshold)).save(buffer, "PNG")
        write_bytes(written[-1], buffer.getvalue())
    if table:
        written.append(out / f"{path.stem}.keypoints.csv")
        write_text(written[-1], csv_text(joint_rows(path, people)))
    return written
