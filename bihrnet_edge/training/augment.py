"""Cached person crops and their augmentation, a batch at a time.

Decoding and cropping happen once: every person is kept as one ``uint8`` canvas, the padded box enlarged
by :data:`MARGIN` so that rotation and scaling have something to show. A batch is one ``grid_sample``.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from bihrnet_edge.data.dataset import PoseDataset
from bihrnet_edge.files import atomic_path, write_text
from bihrnet_edge.pose.crop import box_to_crop, crop_image, read_image
from bihrnet_edge.pose.metadata import PoseMetadata

#: Canvas side over padded-box side.
MARGIN = 1.4


@dataclass(frozen=True)
class Augmentation:
    """Ranges of the random changes: rotation in degrees, the others relative."""

    rotation: float = 35.0
    scale: float = 0.25
    shift: float = 0.05
    flip: float = 0.5
    brightness: float = 0.3
    colour: float = 0.15


@dataclass(frozen=True)
class Batch:
    """A training batch.

    Attributes:
        images: ``(N, 3, H, W)`` float32, normalised.
        points: ``(N, K, 2)`` joints in pixels of those images.
        visible: ``(N, K)`` bool, labelled and inside the image.
    """

    images: Tensor
    points: Tensor
    visible: Tensor


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
    """The canvases kept for ``key``; None where there are none, or they cannot be read."""
    try:
        if _digest_path(cache).read_text(encoding="utf-8").strip() != key:
            return None
        canvases = np.load(cache)
    except (OSError, ValueError, EOFError):
        return None
    if not isinstance(canvases, np.ndarray) or canvases.shape != shape or canvases.dtype != np.uint8:
        return None
    return canvases


class CropCache:
    """All people of a data set as canvases ``(P, H, W, 3)`` with their joints in canvas pixels."""

    def __init__(
        self, canvases: NDArray[np.uint8], points: NDArray[np.float32], visible: NDArray[np.bool_], *, padding: float
    ) -> None:
        self.canvases = torch.from_numpy(canvases)
        self.points = torch.from_numpy(points)
        self.visible = torch.from_numpy(visible)
        self.padding = padding

    def __len__(self) -> int:
        return len(self.canvases)

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
    ) -> Batch:
        """Sample people at ``size`` (height, width), augmented where ``augmentation`` is given."""
        height, width = size
        count = len(indices)
        canvas_height, canvas_width = self.canvases.shape[1:3]

        def uniform(spread: float) -> Tensor:
            return (torch.rand(count, generator=generator) * 2 - 1) * spread

        angle, scale = torch.zeros(count), torch.ones(count)
        shift, flip = torch.zeros(count, 2), torch.zeros(count, dtype=torch.bool)
        if augmentation is not None:
            angle = uniform(math.radians(augmentation.rotation))
            scale = torch.exp(uniform(math.log1p(augmentation.scale)))
            shift = torch.stack([uniform(augmentation.shift * width), uniform(augmentation.shift * height)], dim=1)
            flip = torch.rand(count, generator=generator) < augmentation.flip

        # Input pixel p -> canvas pixel: center_c + R * (p - center - shift), mirrored first where flipped.
        ratio = scale * (canvas_height / MARGIN / height)
        cos, sin = angle.cos() * ratio, angle.sin() * ratio
        matrix = torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1)
        center = torch.tensor([width / 2, height / 2])
        canvas_center = torch.tensor([canvas_width / 2, canvas_height / 2])

        y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        grid = torch.stack([x, y], dim=-1).float().expand(count, -1, -1, -1).clone()
        grid[flip, ..., 0] = width - 1 - grid[flip, ..., 0]
        source = torch.einsum("nij,nhwj->nhwi", matrix, grid - center - shift[:, None, None]) + canvas_center
        size_xy = torch.tensor([canvas_width, canvas_height])
        canvases = self.canvases[indices].permute(0, 3, 1, 2).float()
        images = F.grid_sample(canvases, (2 * source + 1) / size_xy - 1, mode="bilinear", align_corners=False)

        inverse = torch.linalg.inv(matrix)
        points = torch.einsum("nij,nkj->nki", inverse, self.points[indices] - canvas_center) + center + shift[:, None]
        visible = self.visible[indices]
        points[flip, :, 0] = width - 1 - points[flip, :, 0]
        order = torch.arange(points.shape[1])
        for a, b in metadata.keypoints.flip_pairs:
            order[a], order[b] = b, a
        points[flip] = points[flip][:, order]
        visible = torch.where(flip[:, None], visible[:, order], visible)
        limit = torch.tensor([width - 1, height - 1])
        visible = visible & (points >= 0).all(dim=2) & (points <= limit).all(dim=2)

        if augmentation is not None:
            gain = (1 + uniform(augmentation.brightness))[:, None] * (
                1 + torch.stack([uniform(augmentation.colour) for _ in range(3)], dim=1)
            )
            images = (images * gain[:, :, None, None]).clamp(0, 255)
        mean, std = torch.tensor(metadata.mean), torch.tensor(metadata.std)
        images = (images / 255 - mean[:, None, None]) / std[:, None, None]
        return Batch(images, points, visible)
