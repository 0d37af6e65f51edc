"""What every reader of annotations gives."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bihrnet_edge.data.person import Person
from bihrnet_edge.data.tally import Tally
from bihrnet_edge.data.truth import CocoTruth
from bihrnet_edge.pose.keypoints import KeypointSet


@dataclass(frozen=True, eq=False)
class Parsed:
    """One annotation file, before its images are looked for.

    Attributes:
        keypoints: the joints.
        people: usable ones, in file order.
        skipped: annotations that were left out.
        notes: what is odd but left nobody out.
        images: image file by id, those without people too.
        truth: what COCO's protocol scores against, where the file is COCO's.
    """

    keypoints: KeypointSet
    people: list[Person]
    skipped: Tally
    notes: Tally
    images: dict[int, Path]
    truth: CocoTruth | None = None
