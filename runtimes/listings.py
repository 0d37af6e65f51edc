"""Joints as files: JSON and CSV, of a picture or of a video that is written frame by frame."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from bihrnet_edge.console import json_text
from bihrnet_edge.pose.keypoints import KeypointSet

#: One row a joint; ``frame`` and ``time_s`` are empty for a picture.
CSV_COLUMNS = (
    "file", "frame", "time_s", "person", "box_x", "box_y", "box_width", "box_height", "joint", "x", "y", "score",
)  # fmt: skip


def joint_rows(
    file: Path | str, people: Sequence[dict[str, Any]], frame: int | None = None, time_s: float | None = None
) -> Iterator[list[Any]]:
    """Rows of :data:`CSV_COLUMNS`; ``people`` are :func:`~bihrnet_edge.runtimes.people.describe_people`'s."""
    for number, person in enumerate(people):
        for joint in person["keypoints"]:
            yield [file, frame, time_s, number, *person["box"], *(joint[key] for key in ("name", "x", "y", "score"))]


def csv_text(rows: Iterator[list[Any]]) -> str:
    """A CSV file's content, with its head."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    writer.writerows(rows)
    return text.getvalue()


class VideoListing:
    """The JSON file of a video's frames, one a line, of any number.

    Args:
        file: open for writing.
        video: path or name of what was seen.
        size: ``(height, width)`` of the frames.
        model: its name.
        keypoints: of the model.
    """

    def __init__(self, file: TextIO, video: str, size: tuple[int, int], model: str, keypoints: KeypointSet) -> None:
        self._file = file
        self._separator = "\n"
        head = {
            "video": video, "height": size[0], "width": size[1], "model": model,
            "skeleton": [list(limb) for limb in keypoints.skeleton],
        }  # fmt: skip
        file.write(json_text(head)[:-1] + ', "frames": [')

    def add(self, frame: int, time_s: float, people: Sequence[dict[str, Any]]) -> None:
        """The next frame."""
        self._file.write(self._separator + json_text({"frame": frame, "time_s": time_s, "people": people}))
        self._separator = ",\n"

    def finish(self) -> None:
        """End the document; the file stays open."""
        self._file.write("\n]}\n")
