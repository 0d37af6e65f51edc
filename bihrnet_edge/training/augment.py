"""Random changes of people, a batch at a time: one ``grid_sample`` and one pass over the colours."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from bihrnet_edge.pose.keypoints import KeypointSet
from bihrnet_edge.pose.metadata import PoseMetadata

#: Padding of the box around half a body (HRNet's ``half_body_transform``).
HALF_BODY_PADDING = 1.5
#: Fewer joints do not span a box.
_HALF_BODY_LEAST = 3
_LOWER_BODY = ("hip", "knee", "ankle", "pelvis")
#: ITU-R BT.601: grey from red, green and blue.
_LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class Augmentation:
    """Ranges of the random changes; all are drawn uniformly.

    Attributes:
        rotation: degrees to either side.
        scale: relative; 0.25 is from 1/1.25 to 1.25.
        shift: of the input's sides.
        flip: probability of a mirror image.
        half_body: probability of a crop around the upper or lower body alone.
        half_body_joints: of people with more labelled joints than this.
        brightness: relative, of all channels.
        colour: relative, of each channel by itself.
        contrast: relative, around the image's mean.
        saturation: relative, around each pixel's grey.
    """

    rotation: float = 35.0
    scale: float = 0.25
    shift: float = 0.05
    flip: float = 0.5
    half_body: float = 0.0
    half_body_joints: int = 8
    brightness: float = 0.3
    colour: float = 0.15
    contrast: float = 0.0
    saturation: float = 0.0


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


@dataclass(frozen=True)
class Changes:
    """What was drawn for each of N people.

    Attributes:
        angle: ``(N,)`` radians.
        zoom: ``(N,)``, input pixels over which more of the canvas is seen where above 1.
        shift: ``(N, 2)`` share of width and height.
        flip: ``(N,)`` bool.
        half: ``(N,)`` bool, half a body where the person allows it.
        upper: ``(N,)`` bool, the upper half of it where both are there.
        gain: ``(N, 3)`` of red, green, blue.
        contrast, saturation: ``(N,)`` factors.
    """

    angle: Tensor
    zoom: Tensor
    shift: Tensor
    flip: Tensor
    half: Tensor
    upper: Tensor
    gain: Tensor
    contrast: Tensor
    saturation: Tensor

    def take(self, share: slice) -> Changes:
        """Those of some of the people."""
        return Changes(**{field.name: getattr(self, field.name)[share] for field in dataclasses.fields(self)})

    def to(self, device: torch.device) -> Changes:
        """The same on another device."""
        return Changes(**{field.name: getattr(self, field.name).to(device) for field in dataclasses.fields(self)})


def draw_changes(augmentation: Augmentation, count: int, generator: torch.Generator | None) -> Changes:
    """Random changes of ``count`` people, on the CPU, whatever device the images are on."""

    def uniform(spread: float, *shape: int) -> Tensor:
        return (torch.rand(count, *shape, generator=generator) * 2 - 1) * spread

    def chance(probability: float) -> Tensor:
        return torch.rand(count, generator=generator) < probability

    return Changes(
        angle=uniform(math.radians(augmentation.rotation)),
        zoom=torch.exp(uniform(math.log1p(augmentation.scale))),
        shift=uniform(augmentation.shift, 2),
        flip=chance(augmentation.flip),
        half=chance(augmentation.half_body),
        upper=chance(0.5),
        gain=(1 + uniform(augmentation.brightness, 1)) * (1 + uniform(augmentation.colour, 3)),
        contrast=1 + uniform(augmentation.contrast),
        saturation=1 + uniform(augmentation.saturation),
    )


def upper_body(keypoints: KeypointSet) -> Tensor:
    """bool ``(K,)``: False for pelvis, hips, knees and ankles, by their names."""
    return torch.tensor([not name.endswith(_LOWER_BODY) for name in keypoints.keypoints])


def half_body_boxes(
    points: Tensor, visible: Tensor, upper_joints: Tensor, want_upper: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes around half a body each: centre ``(N, 2)``, width and height ``(N, 2)``, and whether there is one ``(N,)``.

    As HRNet's ``half_body_transform``: the wanted half where it has more than two labelled joints, else the other.
    """
    upper, lower = visible & upper_joints, visible & ~upper_joints
    enough_upper, enough_lower = (half.sum(dim=1) >= _HALF_BODY_LEAST for half in (upper, lower))
    take_upper = torch.where(want_upper, enough_upper, ~enough_lower)
    chosen = torch.where(take_upper[:, None], upper, lower)[..., None]
    low = points.masked_fill(~chosen, math.inf).amin(dim=1)
    high = points.masked_fill(~chosen, -math.inf).amax(dim=1)
    exists = enough_upper | enough_lower
    return (low + high) / 2, high - low, exists


def transform(
    canvases: Tensor,
    points: Tensor,
    visible: Tensor,
    size: tuple[int, int],
    metadata: PoseMetadata,
    margin: float,
    augmentation: Augmentation | None = None,
    changes: Changes | None = None,
) -> Batch:
    """Canvases uint8 ``(N, H, W, 3)`` and joints in their pixels to a batch at ``size`` (height, width).

    Without ``changes`` the middle of the canvas, its height over ``margin`` high, is what is seen.
    """
    device = canvases.device
    height, width = size
    count, (canvas_height, canvas_width) = len(canvases), canvases.shape[1:3]
    ratio = torch.full((count,), canvas_height / margin / height, device=device)
    middle = torch.tensor([canvas_width / 2, canvas_height / 2], device=device).expand(count, 2)
    center = torch.tensor([width / 2, height / 2], device=device).expand(count, 2)
    angle = torch.zeros(count, device=device)
    flip = torch.zeros(count, dtype=torch.bool, device=device)
    if augmentation is not None and changes is not None:
        changes = changes.to(device)
        angle, flip = changes.angle, changes.flip
        if augmentation.half_body:
            box_center, box, exists = half_body_boxes(
                points, visible, upper_body(metadata.keypoints).to(device), changes.upper
            )
            half = changes.half & exists & (visible.sum(dim=1) > augmentation.half_body_joints)
            side = torch.maximum(box[:, 0] / width, box[:, 1] / height) * HALF_BODY_PADDING
            middle = torch.where(half[:, None], box_center, middle)
            # Joints that lie in one spot would be magnified without end.
            ratio = torch.where(half, side.clamp_min(1.0 / height), ratio)
        ratio = ratio * changes.zoom
        center = center + changes.shift * torch.tensor([width, height], device=device)

    # Input pixel p -> canvas pixel: middle + R * (p - center), mirrored first where flipped.
    cos, sin = angle.cos() * ratio, angle.sin() * ratio
    matrix = torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1)
    y, x = torch.meshgrid(
        torch.arange(height, device=device, dtype=torch.float32),
        torch.arange(width, device=device, dtype=torch.float32),
        indexing="ij",
    )
    columns = torch.where(flip[:, None, None], width - 1 - x, x)
    grid = torch.stack([columns, y.expand(count, -1, -1)], dim=-1) - center[:, None, None]
    source = torch.einsum("nij,nhwj->nhwi", matrix, grid) + middle[:, None, None]
    size_xy = torch.tensor([canvas_width, canvas_height], device=device)
    images = F.grid_sample(
        canvases.permute(0, 3, 1, 2).float(), (2 * source + 1) / size_xy - 1, mode="bilinear", align_corners=False
    )

    points = torch.einsum("nij,nkj->nki", torch.linalg.inv(matrix), points - middle[:, None]) + center[:, None]
    points, visible = _mirror(points, visible, flip, width, metadata.keypoints)
    limit = torch.tensor([width - 1, height - 1], device=device)
    visible = visible & (points >= 0).all(dim=2) & (points <= limit).all(dim=2)

    if augmentation is not None and changes is not None:
        images = _recolour(images, augmentation, changes)
    mean, std = (torch.tensor(values, device=device)[:, None, None] for values in (metadata.mean, metadata.std))
    return Batch((images / 255 - mean) / std, points, visible)


def _mirror(points: Tensor, visible: Tensor, flip: Tensor, width: int, keypoints: KeypointSet) -> tuple[Tensor, Tensor]:
    """Joints of mirrored people: x from the other side, left and right exchanged."""
    order = torch.arange(points.shape[1], device=points.device)
    for a, b in keypoints.flip_pairs:
        order[a], order[b] = b, a
    mirrored = points[:, order]
    mirrored = torch.stack([width - 1 - mirrored[..., 0], mirrored[..., 1]], dim=-1)
    return (
        torch.where(flip[:, None, None], mirrored, points),
        torch.where(flip[:, None], visible[:, order], visible),
    )


def _recolour(images: Tensor, augmentation: Augmentation, changes: Changes) -> Tensor:
    """Change ``(N, 3, H, W)`` in 0..255; what is switched off costs nothing."""
    images = images * changes.gain[:, :, None, None]
    if augmentation.contrast or augmentation.saturation:
        grey = (images * torch.tensor(_LUMA, device=images.device)[:, None, None]).sum(dim=1, keepdim=True)
        if augmentation.saturation:
            images = grey + (images - grey) * changes.saturation[:, None, None, None]
        if augmentation.contrast:
            mean = grey.mean(dim=(2, 3), keepdim=True)
            images = mean + (images - mean) * changes.contrast[:, None, None, None]
    return images.clamp(0, 255)
