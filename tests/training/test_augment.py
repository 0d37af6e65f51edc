"""Crops of people and their random changes, on the toy."""

from __future__ import annotations

import dataclasses
import resource
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from bihrnet_edge.data.dataset import PoseDataset
from bihrnet_edge.errors import UserError
from bihrnet_edge.pose.crop import box_to_crop, crop_image, read_image
from bihrnet_edge.pose.heatmaps import encode
from bihrnet_edge.pose.keypoints import COCO, LSP, MPII, KeypointSet
from bihrnet_edge.pose.metadata import PoseMetadata
from bihrnet_edge.training import crops
from bihrnet_edge.training.augment import Augmentation, draw_changes, half_body_boxes, transform, upper_body
from bihrnet_edge.training.crops import MARGIN, CropCache
from bihrnet_edge.training.targets import gaussian_targets

JOINTS = KeypointSet("toy", ("right_shoulder", "left_hip", "left_shoulder"))
NONE = Augmentation(0.0, 0.0, 0.0, 0.0, 0.0, 8, 0.0, 0.0)


def test_crop_cache_is_of_its_crops(toy: PoseDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []

    def counted(path: Path) -> object:
        read.append(path)
        return read_image(path)

    monkeypatch.setattr(crops, "read_image", counted)
    path, metadata = tmp_path / "crops.npy", PoseMetadata("toy", 64, 64, JOINTS)

    def build(data: PoseDataset, metadata: PoseMetadata, height: int = 64) -> bool:
        """Whether the images were read; the canvases are as without a cache."""
        read.clear()
        canvases = CropCache.build(data, metadata, canvas_height=height, cache=path).canvases
        fresh = bool(read)
        in_memory = CropCache.build(data, metadata, canvas_height=height).canvases
        assert canvases is not None
        assert in_memory is not None
        assert torch.equal(canvases, in_memory)
        return fresh

    assert build(toy, metadata)
    assert not build(toy, metadata)
    moved = dataclasses.replace(toy.people[0], box=(0.0, 0.0, 64.0, 64.0))
    swapped = dataclasses.replace(toy, people=[*toy.people[1:], toy.people[0]])
    assert build(dataclasses.replace(toy, people=[moved, *toy.people[1:]]), metadata)
    assert build(swapped, metadata)
    assert build(toy, metadata)
    assert build(toy, dataclasses.replace(metadata, box_padding=1.5))
    assert build(toy, metadata, 65)
    assert not build(toy, metadata, 65)

    content = path.read_bytes()
    for damaged in (content[:-100], content[:20], b"", b"half", b"PK"):
        path.write_bytes(damaged)
        assert build(toy, metadata, 65)
    path.with_suffix(".sha256").unlink()
    assert build(toy, metadata, 65)
    assert {p.name for p in tmp_path.iterdir()} == {"crops.npy", "crops.sha256"}


def test_a_failed_write_leaves_no_half_cache(toy: PoseDataset, tmp_path: Path) -> None:
    """Files may grow to 100 kB here, the canvases need 147."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(UserError, match=r"cannot write .*crops\.npy: File too large"):
            CropCache.build(toy, PoseMetadata("toy", 64, 64, JOINTS), canvas_height=64, cache=tmp_path / "crops.npy")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(tmp_path.iterdir())


def test_unaugmented_batch_equals_the_inference_crop(toy: PoseDataset) -> None:
    metadata = PoseMetadata("toy", 64, 64, JOINTS, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    cache = CropCache.build(toy, metadata, canvas_height=round(80 * MARGIN))
    batch = cache.batch(torch.arange(3), (64, 64), metadata)
    for i, person in enumerate(toy.people[:3]):
        crop = box_to_crop(person.box, 1.0, metadata.box_padding)
        image = np.asarray(Image.open(person.image_path))
        expected = crop_image(image, crop, 64, 64).astype(float) / 255
        assert np.abs(batch.images[i].permute(1, 2, 0).numpy() - expected).mean() < 0.01
        assert batch.points[i].numpy() == pytest.approx(crop.to_input(person.keypoints, (64, 64)), abs=1e-3)


def test_augmented_joints_stay_on_their_colours(toy: PoseDataset) -> None:
    """Whatever the rotation, scale, shift and flip: the pixel at a joint has the joint's colour.

    A flip turns the right shoulder into the left one, so red and blue swap.
    """
    metadata = PoseMetadata("toy", 128, 128, JOINTS, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    cache = CropCache.build(toy, metadata, canvas_height=180)
    augmentation = Augmentation(rotation=90, scale=0.2, shift=0.1, flip=0.5, brightness=0, colour=0)
    flipped = checked = 0
    for seed in range(8):
        batch = cache.batch(torch.arange(12), (128, 128), metadata, augmentation, torch.Generator().manual_seed(seed))
        for image, points, visible in zip(batch.images, batch.points, batch.visible, strict=True):
            colours = []
            for (x, y), seen in zip(points.round().int().tolist(), visible.tolist(), strict=True):
                colours.append(int(image[:, y, x].argmax()) if seen and image[:, y, x].max() > 0.5 else -1)
            assert colours[1] in (1, -1)
            assert colours[0] in (0, 2, -1)
            if colours[0] >= 0 and colours[2] >= 0:
                assert colours[0] + colours[2] == 2 or colours[0] == colours[2]
                flipped += colours[0] == 2
                checked += 1
    assert checked > 20
    assert 0 < flipped < checked


def test_a_share_is_changed_as_the_whole_batch_would_be(toy: PoseDataset) -> None:
    metadata = PoseMetadata("toy", 64, 64, JOINTS)
    cache = CropCache.build(toy, metadata, canvas_height=90)
    augmentation = Augmentation(half_body=0.5, half_body_joints=2, contrast=0.3, saturation=0.3)

    def batch(share: slice) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        b = cache.batch(torch.arange(12), (64, 64), metadata, augmentation, torch.Generator().manual_seed(5), share)
        return b.images, b.points, b.visible

    whole = batch(slice(None))
    parts = [batch(slice(0, 6)), batch(slice(6, 12))]
    for tensor, halves in zip(whole, zip(*parts, strict=True), strict=True):
        assert torch.equal(tensor, torch.cat(list(halves)))


@pytest.mark.parametrize(
    ("keypoints", "lower"),
    [
        (COCO, set(COCO.keypoints[11:])),
        (MPII, {*MPII.keypoints[:6], "pelvis"}),
        (LSP, set(LSP.keypoints[:6])),
    ],
)
def test_halves_are_those_of_hrnet(keypoints: KeypointSet, lower: set[str]) -> None:
    """HRNet's ``upper_body_ids``: 0 to 10 of COCO, 7 to 15 of MPII."""
    assert {n for n, up in zip(keypoints.keypoints, upper_body(keypoints).tolist(), strict=True) if not up} == lower


@given(st.integers(0, 2**32 - 1), st.booleans())
def test_half_a_body_keeps_its_joints_inside(seed: int, want_upper: bool) -> None:
    rng = np.random.default_rng(seed)
    points = torch.from_numpy(rng.uniform(60, 100, (1, 17, 2)).astype(np.float32))
    visible = torch.from_numpy(rng.random((1, 17)) < 0.7)
    canvas = torch.zeros(1, 160, 120, 3, dtype=torch.uint8)
    metadata = PoseMetadata("coco", 128, 96, COCO)
    augmentation = dataclasses.replace(NONE, half_body=1.0)
    changes = draw_changes(augmentation, 1, torch.Generator().manual_seed(0))
    changes = dataclasses.replace(changes, upper=torch.tensor([want_upper]))
    batch = transform(canvas, points, visible, (128, 96), metadata, MARGIN, augmentation, changes)

    upper = upper_body(COCO)
    halves = {True: visible[0] & upper, False: visible[0] & ~upper}
    chosen = want_upper if halves[want_upper].sum() >= 3 else not want_upper
    plain = transform(canvas, points, visible, (128, 96), metadata, MARGIN)
    if visible.sum() > 8 and halves[chosen].sum() >= 3:
        assert batch.visible[0][halves[chosen]].all()
        box = batch.points[0][halves[chosen]]
        center = (box.amin(dim=0) + box.amax(dim=0)) / 2
        assert center.tolist() == pytest.approx([48, 64], abs=1e-2)
        # The box fills two thirds of the image along one axis: it is padded by HRNet's 1.5.
        fill = (box.amax(dim=0) - box.amin(dim=0)) / torch.tensor([96.0, 128.0])
        assert fill.max().item() == pytest.approx(1 / 1.5, rel=1e-3)
    else:
        assert torch.equal(batch.points, plain.points)


def test_half_a_body_needs_three_joints() -> None:
    points, upper = torch.rand(2, 5, 2), torch.tensor([True, True, True, False, False])
    visible = torch.tensor([[True, True, False, True, True], [True, True, True, True, True]])
    for want in (True, False):
        center, side, exists = half_body_boxes(points, visible, upper, torch.tensor([want, want]))
        assert exists.tolist() == [False, True]  # the second has three upper joints, whichever half was wanted
        assert center[1].tolist() == pytest.approx(
            ((points[1, :3].amin(dim=0) + points[1, :3].amax(dim=0)) / 2).tolist()
        )
        assert side[1].tolist() == pytest.approx((points[1, :3].amax(dim=0) - points[1, :3].amin(dim=0)).tolist())


def test_colours_change_as_told() -> None:
    """Saturation 0 is grey, contrast 0 is flat; both off leave the gain alone."""
    canvas = torch.randint(0, 256, (2, 90, 90, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    metadata = PoseMetadata("toy", 64, 64, JOINTS, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    points, visible = torch.zeros(2, 3, 2), torch.zeros(2, 3, dtype=torch.bool)

    def images(augmentation: Augmentation, **factors: float) -> torch.Tensor:
        changes = draw_changes(NONE, 2, None)
        drawn = {name: torch.full((2,), value) for name, value in factors.items()}
        changes = dataclasses.replace(changes, **drawn)
        return transform(canvas, points, visible, (64, 64), metadata, MARGIN, augmentation, changes).images

    plain = images(NONE)
    grey = images(dataclasses.replace(NONE, saturation=1.0), saturation=0.0)
    assert (grey - grey.mean(dim=1, keepdim=True)).abs().max() < 1e-5
    assert torch.allclose(grey[:, 0], (plain * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1), atol=1e-5)
    flat = images(dataclasses.replace(NONE, contrast=1.0), contrast=0.0)
    assert flat.flatten(1).std(dim=1).max() < 1e-5
    assert torch.allclose(images(dataclasses.replace(NONE, contrast=1.0), contrast=1.0), plain, atol=1e-5)


@given(st.floats(0.5, 3), st.integers(0, 2**32 - 1))
def test_targets_are_the_codecs(sigma: float, seed: int) -> None:
    points = np.random.default_rng(seed).uniform(-5, 30, (2, 3, 2)).astype(np.float32)
    targets = gaussian_targets(torch.from_numpy(points), 24, 18, sigma)
    assert targets.numpy() == pytest.approx(encode(points, 24, 18, sigma), abs=1e-5)
