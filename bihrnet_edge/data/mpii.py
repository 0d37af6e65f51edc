"""MPII in the JSON form of HRNet's tools: a list of ``{image, center, scale, joints, joints_vis}``."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from bihrnet_edge.data.fields import number, numbers, require
from bihrnet_edge.data.person import Person
from bihrnet_edge.pose.keypoints import MPII, KeypointSet

#: A person of scale 1 is 200 px tall (MPII's annotation format).
SCALE_PIXELS = 200.0
#: HRNet moves the centre down by 15 px per scale, "to avoid cropping limbs".
CENTER_SHIFT = 15.0


def box_of(center: tuple[float, float], scale: float) -> tuple[float, float, float, float]:
    """The square box whose padded crop is the one that HRNet takes.

    HRNet shifts the centre by ``15 * scale``, multiplies the scale by 1.25 and crops ``200 * scale`` around
    the centre less one (MPII counts pixels from 1). The factor 1.25 is ``box_to_crop``'s padding, so it is
    left out here. In an upright input (width <= height) the crop is then HRNet's to the pixel.
    """
    x, y = center[0] - 1, center[1] + CENTER_SHIFT * scale - 1
    side = SCALE_PIXELS * scale
    return x - side / 2, y - side / 2, side, side


def parse_mpii(document: list[Any], source: Path, images: Path) -> tuple[KeypointSet, list[Person], Counter[str]]:
    """People of an MPII list whose image files lie in ``images``; ids count from 1 in file order.

    Joints are moved to 0-based pixels. An optional ``head_size`` (pixels) of an entry is kept for PCKh.

    Returns:
        The joints, the people in file order, and how many entries were skipped, by reason.

    Raises:
        UserError: an entry is malformed; says which.
    """
    joints = len(MPII)
    people: list[Person] = []
    skipped: Counter[str] = Counter()
    image_ids: dict[str, int] = {}
    for index, entry in enumerate(document):
        where = f"{source}, entry {index}"
        name = str(require(entry, "image", where))
        image_id = image_ids.setdefault(name, len(image_ids) + 1)
        center = numbers(require(entry, "center", where), 2, "center", where)
        scale = number(require(entry, "scale", where), "scale", where)
        points = numbers(require(entry, "joints", where), 2 * joints, "joints", where).reshape(joints, 2)
        visible = numbers(require(entry, "joints_vis", where), joints, "joints_vis", where) > 0
        head_size = entry.get("head_size")
        if not visible.any():
            skipped["no labelled keypoints"] += 1
        elif center[0] == -1 or scale <= 0:
            skipped["no centre or scale"] += 1
        else:
            people.append(
                Person(
                    images / name,
                    image_id,
                    index + 1,
                    box_of((center[0], center[1]), scale),
                    (points - 1).astype(np.float32),
                    visible,
                    head_size=None if head_size is None else number(head_size, "head_size", where),
                )
            )
    return MPII, people, skipped
