"""A detector's boxes for pictures and videos that no annotation file lists: records find their source by its name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from bihrnet_edge.data.detections import usable_boxes
from bihrnet_edge.data.fields import integer, require
from bihrnet_edge.data.tally import Tally
from bihrnet_edge.errors import UserError

Box = tuple[float, float, float, float]
_NUMBER_AT_THE_END = re.compile(r"([0-9]+)$")
#: In the place of a frame's number: a picture has none.
_PICTURE = -1


class SourceBoxes:
    """Boxes by source and, in a video, by frame.

    Attributes:
        skipped: records left out, by reason; empty where all were used.
    """

    def __init__(self, boxes: dict[tuple[Path, int], list[Box]], skipped: str) -> None:
        self._boxes = boxes
        self.skipped = skipped

    def __len__(self) -> int:
        return sum(map(len, self._boxes.values()))

    def of_picture(self, path: Path) -> list[Box]:
        """In file order; none where the detector found nobody."""
        return self._boxes.get((path, _PICTURE), [])

    def of_frame(self, path: Path, frame: int) -> list[Box]:
        """Of a video's frame, counted from 0, in file order."""
        return self._boxes.get((path, frame), [])


def load_source_boxes(
    file: Path, pictures: Sequence[Path], videos: Sequence[Path], *, min_score: float = 0.0
) -> SourceBoxes:
    """Read a list of ``{image_id, category_id, bbox, score}``, COCO's results form, with an optional ``file_name``.

    A record with a ``file_name`` is of the picture or video whose path ends so; in a video ``image_id`` is the frame,
    counted from 0. Without one, ``image_id`` is a picture's name with or without its suffix, or the number that its
    name ends in, as COCO's do; or a frame, where a single video is all there is.

    Args:
        file: the JSON file.
        pictures, videos: that are wanted; records of others are left out and counted.
        min_score: boxes with less are left out.

    Raises:
        UserError: the file is missing or no such list, its records do not say which of several videos they are of,
            two pictures go by one number, or no record is of what is wanted.
    """
    by_name = {path.name: (path, _PICTURE) for path in pictures} | {path.stem: (path, _PICTURE) for path in pictures}
    by_number: dict[int, list[Path]] = {}
    for path in pictures:
        if (found := _NUMBER_AT_THE_END.search(path.stem)) is not None:
            by_number.setdefault(int(found[1][-18:]), []).append(path)  # more digits than an id has

    by_last: dict[str, list[Path]] = {}
    for path in (*videos, *pictures):
        by_last.setdefault(path.name, []).append(path)
    moving = set(videos)

    def named(entry: Any, where: str) -> tuple[Path, int] | None:
        name = PurePosixPath(str(entry["file_name"]).replace("\\", "/"))
        for path in by_last.get(name.name, []):
            if _ends_with(path, name):
                frame = integer(require(entry, "image_id", where), "image_id", where) if path in moving else _PICTURE
                return path, frame
        return None

    def place(entry: Any, where: str) -> tuple[Path, int] | None:
        image_id = require(entry, "image_id", where)
        if "file_name" in entry:
            return named(entry, where)
        if isinstance(image_id, str):
            return by_name.get(image_id)
        number = integer(image_id, "image_id", where)
        if videos:
            if len(videos) > 1 or pictures:
                raise UserError(
                    f"{where} has no 'file_name', which says of which of several pictures and videos it is; add it, or "
                    "predict one video alone."
                )
            return videos[0], number
        of_number = by_number.get(number, [])
        if len(of_number) > 1:
            raise UserError(
                f"{where} is of the image {number}, which {of_number[0].name} and {of_number[1].name} could both be; "
                "give the records a 'file_name'."
            )
        return (of_number[0], _PICTURE) if of_number else None

    skipped = Tally()
    boxes: dict[tuple[Path, int], list[Box]] = {}
    for key, box, _ in usable_boxes(file, place, "of another picture or video", skipped, min_score=min_score):
        boxes.setdefault(key, []).append(box)
    if not boxes:
        raise UserError(
            f"{file} holds no usable box of what is to be predicted ({str(skipped) or 'the file lists none'}); its "
            "records name a picture by 'file_name' or 'image_id', a video's frame by its number."
        )
    return SourceBoxes(boxes, str(skipped))


def _ends_with(path: Path, name: PurePosixPath) -> bool:
    """Whether the last parts of ``path`` are those of ``name``."""
    parts = [part for part in name.parts if part not in (".", "/")]
    return bool(parts) and list(path.parts[-len(parts) :]) == parts
