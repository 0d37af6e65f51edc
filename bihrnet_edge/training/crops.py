"""People as ``uint8`` canvases, decoded and cropped once and kept in a file between runs.

A canvas is the padded box enlarged by :data:`MARGIN`, so that rotation and scaling have something to show.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bihrnet_edge.data.dataset import PoseDataset
from bihrnet_edge.files import atomic_path, write_text
from bihrnet_edge.pose.crop import box_to_crop, crop_image, read_image
from bihrnet_edge.pose.metadata import PoseMetadata
from bihrnet_edge.training.augment import Augmentation, Batch, Changes, draw_changes, transform

#: Canvas side over padded-box side.
MARGIN = 1.4


def _digest_path(cache: Path) -> Path:
    return cache.with_suffix(".sha256")


def _crops_digest(dataset: PoseDataset, metadata: PoseMetadata, shape: tuple[int, ...]) -> str:
    """SHA-256 over everything that decides a canvas, but for what is in the image files."""
    content = {
        "people": [[str(person.image_path), [float(side) for side in person.box]] for person in dataset.people],
        "aspect": [metadata.input_width, metadata.input_height],
        "padding": metadata.box_padding * MARGIN,
        "shape": shape,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _load_canvases(cache: Path, key: str, shape: tuple[int, ...]) -> NDArray[np.uint8] | None:
    """The canvases kept for ``key``, mapped, so that processes share them; None where there are none to read."""
    try:
        if _digest_path(cache).read_text(encoding="utf-8").strip() != key:
            return None
        canvases = np.load(cache, mmap_mode="c")  # never written to; torch warns of arrays that cannot be
    except (OSError, ValueError, EOFError):
        return None
    if not isinstance(canvases, np.ndarray) or canvases.shape != shape or canvases.dtype != np.uint8:
        return None
    return canvases


class CropCache:
    """All people of a data set as canvases ``(P, H, W, 3)`` with their joints in canvas pixels.

    Attributes:
        canvases: uint8.
        points: float32 ``(P, K, 2)``.
        visible: bool ``(P, K)``.
    """

    def __init__(
        self, canvases: NDArray[np.uint8], points: NDArray[np.float32], visible: NDArray[np.bool_], *, padding: float
    ) -> None:
        self.canvases = torch.from_numpy(canvases)
        self.points = torch.from_numpy(points)
        self.visible = torch.from_numpy(visible)
        self.padding = padding

    def __len__(self) -> int:
        return len(self.canvases)

    def to(self, device: torch.device) -> None:
        """Move everything to the accelerator, once, so that batches are made there."""
        self.canvases, self.points = self.canvases.to(device), self.points.to(device)
        self.visible = self.visible.to(device)

    @classmethod
    def build(
        cls,
        dataset: PoseDataset,
        metadata: PoseMetadata,
        *,
        canvas_height: int,
        cache: Path | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> CropCache:
        """Decode and crop every person; ``cache`` (an ``.npy`` file) keeps the canvases between runs.

        Beside it, a ``.sha256`` file says of which crops they are; the canvases of others are not used.
        """
        aspect = metadata.input_width / metadata.input_height
        height, width = canvas_height, round(canvas_height * aspect)
        count = len(dataset.people)
        shape = (count, height, width, 3)
        key = _crops_digest(dataset, metadata, shape)
        cached = _load_canvases(cache, key, shape) if cache is not None else None
        canvases = cached if cached is not None else np.empty(shape, np.uint8)
        points = np.empty((count, len(dataset.keypoints), 2), np.float32)
        visible = np.empty((count, len(dataset.keypoints)), np.bool_)
        for i, person in enumerate(dataset.people):
            crop = box_to_crop(person.box, aspect, metadata.box_padding * MARGIN)
            if cached is None:
                canvases[i] = crop_image(read_image(person.image_path), crop, height, width)
            points[i] = crop.to_input(person.keypoints, (height, width))
            visible[i] = person.visible
            if progress is not None:
                progress(i + 1, count)
        if cache is not None and cached is None:
            # The old digest goes first: a run killed between the two files must not leave a pair that disagrees.
            with atomic_path(cache) as temporary:
                with temporary.open("wb") as file:
                    np.save(file, canvases)
                _digest_path(cache).unlink(missing_ok=True)
            write_text(_digest_path(cache), key + "\n")
        return cls(canvases, points, visible, padding=metadata.box_padding)

    def batch(
        self,
        indices: Tensor,
        size: tuple[int, int],
        metadata: PoseMetadata,
        augmentation: Augmentation | None = None,
        generator: torch.Generator | None = None,
        share: slice = slice(None),
    ) -> Batch:
        """Sample people at ``size`` (height, width), augmented where ``augmentation`` is given.

        ``share`` is the part of ``indices`` that this process takes. The random changes are drawn for all of them,
        so that a person is changed alike whoever takes it.
        """
        changes: Changes | None = None
        if augmentation is not None:
            changes = draw_changes(augmentation, len(indices), generator).take(share)
        mine = indices[share].to(self.canvases.device)
        return transform(
            self.canvases[mine], self.points[mine], self.visible[mine], size, metadata, MARGIN, augmentation, changes
        )
