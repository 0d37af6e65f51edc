from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bihrnet_edge.data.source_boxes import load_source_boxes
from bihrnet_edge.errors import UserError

Write = Callable[[Any], Path]
A, B, C = Path("photos/000000397133.jpg"), Path("photos/anna.png"), Path("more/frame_12.png")
CLIP, OTHER = Path("videos/clip.mp4"), Path("videos/other.mkv")


def box(image_id: Any, left: float = 1.0, **more: Any) -> dict[str, Any]:
    return {"image_id": image_id, "category_id": 1, "bbox": [left, 2.0, 30.0, 40.0], "score": 0.9} | more


def at(left: float) -> tuple[float, float, float, float]:
    return (left, 2.0, 30.0, 40.0)


def test_pictures_by_number_name_and_path(write: Write) -> None:
    records = [
        box(397133, 1), box("anna", 2), box("anna.png", 3), box(12, 4), box(0, 5, file_name="photos/anna.png"),
        box(0, 6, file_name="anna.png"), box(0, 7, file_name="elsewhere/anna.png"), box(99, 8),
    ]  # fmt: skip
    boxes = load_source_boxes(write(records), [A, B, C], [])
    assert boxes.of_picture(A) == [at(1)]
    assert boxes.of_picture(B) == [at(2), at(3), at(5), at(6)]
    assert boxes.of_picture(C) == [at(4)]
    assert (len(boxes), boxes.skipped) == (6, "2 of another picture or video")


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 50)), min_size=1, max_size=30))
def test_frames_by_number(tmp_path_factory: pytest.TempPathFactory, frames: list[tuple[int, int]]) -> None:
    import json

    file = tmp_path_factory.mktemp("b") / "boxes.json"
    file.write_text(json.dumps([box(frame, left) for frame, left in frames]))
    boxes = load_source_boxes(file, [], [CLIP])
    for frame in range(10):
        assert boxes.of_frame(CLIP, frame) == [at(left) for number, left in frames if number == frame]
    assert boxes.of_picture(CLIP) == boxes.of_frame(OTHER, 0) == []


def test_several_videos_need_names(write: Write) -> None:
    named = [box(3, 1, file_name="clip.mp4"), box(3, 2, file_name="other.mkv"), box(397133, 3, file_name=A.name)]
    boxes = load_source_boxes(write(named), [A], [CLIP, OTHER])
    assert (boxes.of_frame(CLIP, 3), boxes.of_frame(OTHER, 3), boxes.of_picture(A)) == ([at(1)], [at(2)], [at(3)])
    for pictures, videos in (([], [CLIP, OTHER]), ([A], [CLIP])):
        with pytest.raises(UserError, match="detection 0 has no 'file_name'"):
            load_source_boxes(write([box(3)]), pictures, videos)


def test_low_scores_and_what_is_malformed(write: Write) -> None:
    records = [box(12), box(12, score=0.1), box(12, category_id=3), box(12, bbox=[1, 2, 0, 4]), box(12, bbox="x")]
    boxes = load_source_boxes(write(records), [C], [], min_score=0.3)
    assert len(boxes) == 1
    assert "1 score below the threshold, 1 not a person, 1 box without area, 1 malformed box" in boxes.skipped


def test_files_of_something_else(write: Write) -> None:
    for content, said in (
        ({"annotations": []}, "is not a list"),
        ([], "holds no usable box"),
        ([box(4)], "1 of another picture or video"),
        ([{"bbox": [1, 2, 3, 4]}], "image_id"),
        ([box([7])], "image_id"),
        ([box(1.5)], "not a whole number"),
        ([box("x", file_name="clip.mp4")], "not a number"),
    ):
        with pytest.raises(UserError, match=said):
            load_source_boxes(write(content), [C], [CLIP] if "file_name" in str(content) else [])
    with pytest.raises(UserError, match="could both be"):
        load_source_boxes(write([box(12)]), [C, Path("12.jpg")], [])
