"""MPII in the JSON form of HRNet's tools: a list of ``{image, center, scale, joints, joints_vis}``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from bihrnet_edge.data.fields import number, numbers, require
from bihrnet_edge.data.parsed import Parsed
from bihrnet_edge.data.person import Person
from bihrnet_edge.data.tally import Tally
from bihrnet_edge.errors import UserError
from bihrnet_edge.pose.crop import PIXELS_PER_SCALE
from bihrnet_edge.pose.keypoints import MPII

#: HRNet moves the centre down by 15 px per scale, "to avoid cropping limbs".
CENTER_SHIFT = 15.0
#: A head's size is this part of its box's diagonal (MPII's evaluation toolkit, ``SC_BIAS``).
HEAD_SCALE = 0.6


def box_of(center: tuple[float, float], scale: float) -> tuple[float, float, float, float]:
    """The square box whose padded crop is the one that HRNet takes.

    HRNet shifts the centre by ``15 * scale``, multiplies the scale by 1.25 and crops ``200 * scale`` around
    the centre less one (MPII counts pixels from 1). The factor 1.25 is ``box_to_crop``'s padding, so it is
    left out here. In an upright input (width <= height) the crop is then HRNet's to the pixel.
    """
    x, y = center[0] - 1, center[1] + CENTER_SHIFT * scale - 1
    side = PIXELS_PER_SCALE * scale
    return x - side / 2, y - side / 2, side, side


class PeopleBuilder:
    """Collects the people of MPII one by one, whichever form they come in.

    Joints are moved from MPII's 1-based pixels to 0-based ones; images get ids from 1 in the order of their names'
    first use. A person whose numbers are malformed is left out and counted.
    """

    def __init__(self, images: Path) -> None:
        self._folder = images
        self._image_ids: dict[str, int] = {}
        self.people: list[Person] = []
        self.skipped, self.notes = Tally(), Tally()

    def add(
        self,
        identifier: int,
        image: str,
        center: Any,
        scale: Any,
        joints: Any,
        visible: Any,
        head_size: Any,
        name: str,
    ) -> None:
        """Add one person.

        Args:
            identifier: the annotation's id.
            image: file name.
            center: ``(x, y)`` in 1-based pixels; -1 where unknown.
            scale: the person's height / 200 px.
            joints: ``(16, 2)`` in 1-based pixels.
            visible: ``(16,)``, positive where labelled.
            head_size: in pixels, or None.
            name: what the counts call the person.
        """
        image_id = self._image_ids.setdefault(image, len(self._image_ids) + 1)
        try:
            points = numbers(joints, 2 * len(MPII), "joints", name).reshape(len(MPII), 2)
            labelled = numbers(visible, len(MPII), "joints_vis", name) > 0
        except UserError as error:
            self.skipped.malformed("malformed keypoints", error)
            return
        try:
            x, y = numbers(center, 2, "center", name).tolist()
            size = number(scale, "scale", name)
        except UserError as error:
            self.skipped.malformed("malformed centre or scale", error)
            return
        try:
            head = None if head_size is None else number(head_size, "head_size", name)
        except UserError as error:
            self.skipped.malformed("malformed head size", error)
            return
        if not labelled.any():
            self.skipped.add("no labelled keypoints", name)
        elif x == -1 or size <= 0:
            self.skipped.add("no centre or scale", name)
        else:
            moved = (points - 1).astype(np.float32)
            if (moved[labelled] < -0.5).any():  # the far sides are not known without the image
                self.notes.add("people with a joint outside the image", name)
            self.people.append(
                Person(
                    self._folder / image, image_id, identifier, box_of((x, y), size), moved, labelled, head_size=head
                )
            )

    def build(self) -> Parsed:
        """What was added so far."""
        paths = {identifier: self._folder / image for image, identifier in self._image_ids.items()}
        return Parsed(MPII, self.people, self.skipped, self.notes, paths)


def parse_mpii(document: list[Any], source: Path, images: Path) -> Parsed:
    """People of an MPII list whose image files lie in ``images``; ids count from 1 in file order.

    An optional ``head_size`` (pixels) of an entry is kept for PCKh.

    Raises:
        UserError: an entry lacks a field; says which.
    """
    builder = PeopleBuilder(images)
    for index, entry in enumerate(document):
        where = f"{source}, entry {index}"
        fields = (require(entry, key, where) for key in ("image", "center", "scale", "joints", "joints_vis"))
        image, center, scale, joints, visible = fields
        builder.add(index + 1, str(image), center, scale, joints, visible, entry.get("head_size"), f"entry {index}")
    return builder.build()
