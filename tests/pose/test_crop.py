"""Crop geometry against an independent sampling of a picture whose pixel values are their coordinates."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from bihrnet_edge.errors import UserError
from bihrnet_edge.pose.crop import Crop, box_to_crop, crop_image, normalise, read_image, scale_to_crop

coordinates = st.floats(-500, 500)
lengths = st.floats(1, 500)


@given(coordinates, coordinates, lengths, lengths, coordinates, coordinates)
def test_to_image_inverts_to_input(cx: float, cy: float, w: float, h: float, x: float, y: float) -> None:
    crop = Crop(cx, cy, w, h)
    there = crop.to_input([x, y], (256, 192))
    assert crop.to_image(there, (256, 192)) == pytest.approx([x, y], abs=1e-6)
    assert crop.to_input([cx, cy], (256, 192)) == pytest.approx([96, 128], abs=1e-6)


@given(coordinates, coordinates, lengths, lengths, st.sampled_from([0.75, 1.0, 2.0]), st.floats(1, 2))
def test_crop_contains_the_box_at_the_input_aspect(
    x: float, y: float, w: float, h: float, aspect: float, padding: float
) -> None:
    crop = box_to_crop((x, y, w, h), aspect, padding)
    assert crop.width / crop.height == pytest.approx(aspect)
    assert crop.width >= w * padding * (1 - 1e-9)
    assert crop.height >= h * padding * (1 - 1e-9)
    assert min(crop.width / w, crop.height / h) == pytest.approx(padding)
    assert (crop.center_x, crop.center_y) == pytest.approx((x + w / 2, y + h / 2))


@pytest.mark.parametrize("box", [(0, 0, 0, 5), (0, 0, 5, -1), (float("nan"), 0, 5, 5), (0, 0, float("inf"), 5)])
def test_box_without_area(box: tuple[float, ...]) -> None:
    with pytest.raises(UserError, match="no area"):
        box_to_crop(box, 0.75)


def three_point_affine(
    center: tuple[float, float], scale_x: float, size: tuple[int, int]
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """The affine map as HRNet defines it, from three pairs of points: a linear system of six equations.

    The centre goes to the middle of the output; the point half a crop's width above it goes to half an output's
    width above the middle; the third lies at a right angle to these. The crop is ``200 * scale_x`` pixels wide.
    """
    height, width = size
    (cx, cy), half = center, 200 * scale_x / 2
    source = [(cx, cy), (cx, cy - half), (cx - half, cy - half)]
    target = [(width / 2, height / 2), (width / 2, height / 2 - width / 2), (0.0, height / 2 - width / 2)]
    equations, right = [], []
    for (x, y), (u, v) in zip(source, target, strict=True):
        equations += [[x, y, 1, 0, 0, 0], [0, 0, 0, x, y, 1]]
        right += [u, v]
    return np.linalg.solve(np.array(equations), np.array(right)).reshape(2, 3)


sizes = st.sampled_from([(256, 192), (384, 288), (64, 48), (256, 256), (128, 96)])


@given(coordinates, coordinates, lengths, lengths, sizes, coordinates, coordinates)
def test_box_maps_as_hrnets_affine(
    left: float, top: float, w: float, h: float, size: tuple[int, int], x: float, y: float
) -> None:
    """HRNet's own arithmetic for a box of COCO: to the input's aspect, in units of 200 px, times 1.25."""
    aspect = size[1] / size[0]
    center = left + w * 0.5, top + h * 0.5
    if w > aspect * h:
        h = w / aspect
    elif w < aspect * h:
        w = h * aspect
    scale = w / 200 * 1.25, h / 200 * 1.25
    crop = box_to_crop((left, top, 2 * (center[0] - left), 2 * (center[1] - top)), aspect)
    assert crop.center_and_scale[0] == pytest.approx(center, abs=1e-9)
    assert crop.center_and_scale[1] == pytest.approx(scale, rel=1e-6)
    crop = Crop(*center, 200 * scale[0], 200 * scale[1])  # free of the box's rounding
    expected = three_point_affine(center, scale[0], size)
    assert crop.matrix(size) == pytest.approx(expected, abs=1e-6)
    assert crop.to_input([x, y], size) == pytest.approx(expected @ [x, y, 1], abs=1e-6)
    inverse = np.linalg.inv(np.vstack([expected, [0, 0, 1]]))
    assert crop.to_image([x, y], size) == pytest.approx((inverse @ [x, y, 1])[:2], abs=1e-6)


@given(coordinates, coordinates, st.floats(0.05, 10), sizes)
def test_scale_maps_as_hrnets_affine(cx: float, cy: float, scale: float, size: tuple[int, int]) -> None:
    """MPII: one scale for both axes, of which HRNet's affine map reads the width."""
    crop = scale_to_crop((cx, cy), scale, size[1] / size[0])
    assert crop.matrix(size) == pytest.approx(three_point_affine((cx, cy), 1.25 * scale, size), abs=1e-6)
    assert crop.center_and_scale[1][0] == pytest.approx(1.25 * scale)
    unpadded = scale_to_crop((cx, cy), 1.25 * scale, size[1] / size[0], padding=1.0)
    assert unpadded.width == pytest.approx(crop.width)
    # An upright input reaches as far as the crop of a square box: how MPII's people are read.
    side = 200 * scale
    box = box_to_crop((cx - side / 2, cy - side / 2, side, side), size[1] / size[0])
    assert (box.width, box.height) == pytest.approx((crop.width, crop.height))


@given(coordinates, coordinates, lengths, lengths, sizes, st.integers(0, 2**32 - 1))
def test_points_come_back_through_the_heatmap(
    cx: float, cy: float, w: float, h: float, size: tuple[int, int], seed: int
) -> None:
    """Image to input, to heatmap by the stride, to image: to 1e-6 px."""
    crop, points = Crop(cx, cy, w, h), np.random.default_rng(seed).uniform(-1000, 1000, (3, 5, 2))
    heatmap_size = size[0] // 4, size[1] // 4
    back = crop.to_image(crop.to_input(points, size) / 4, heatmap_size)
    np.testing.assert_allclose(back, points, atol=1e-6)
    np.testing.assert_allclose(crop.to_image(crop.to_input(points, size), size), points, atol=1e-6)


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
def test_scale_without_area(scale: float) -> None:
    with pytest.raises(UserError, match="has no area; give a scale above 0"):
        scale_to_crop((1, 2), scale, 0.75)
    with pytest.raises(UserError, match="has no area"):
        scale_to_crop((float("nan"), 2), 1.0, 0.75)


@given(st.floats(40, 80), st.floats(40, 80), st.floats(20, 60), st.floats(20, 60))
def test_pixels_land_where_coordinates_say(cx: float, cy: float, w: float, h: float) -> None:
    """Red is x and green is y, so a resampled pixel tells where it came from."""
    ramp = np.zeros((128, 128, 3), np.uint8)
    ramp[..., 0], ramp[..., 1] = np.arange(128)[None, :], np.arange(128)[:, None]
    crop = Crop(cx, cy, w, h)
    got = crop_image(ramp, crop, 16, 12).astype(float)
    y, x = np.mgrid[0:16, 0:12]
    expected = crop.to_image(np.stack([x, y], axis=-1), (16, 12))
    inside = ((expected >= 1) & (expected <= 126)).all(axis=-1)
    assert np.abs(got[..., :2] - expected)[inside].max(initial=0) <= 1.0  # rounding to 8 bits


def test_outside_is_black() -> None:
    white = np.full((10, 10, 3), 255, np.uint8)
    got = crop_image(white, Crop(0, 0, 20, 20), 20, 20)
    assert got[:9, :9].max() == 0
    assert got[11:, 11:].min() == 255


def test_normalise() -> None:
    pixels = np.array([[[[0, 128, 255]]]], np.uint8)
    got = normalise(pixels, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    expected = (np.array([0, 128, 255]) / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    assert got.dtype == np.float32
    assert got[0, 0, 0] == pytest.approx(expected, abs=1e-6)


def test_read_image_turns_upright_only_when_asked(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    Image.new("RGB", (20, 10), "red").save(path, exif=exif)
    assert read_image(path).shape == (10, 20, 3)
    assert read_image(path, upright=True).shape == (20, 10, 3)


@pytest.mark.parametrize("content", [None, b"", b"not an image", "truncated"])
def test_unreadable_image_is_named(tmp_path: Path, content: object) -> None:
    path = tmp_path / "b.png"
    if content == "truncated":
        Image.effect_noise((64, 64), 80).save(path)
        path.write_bytes(path.read_bytes()[:500])
    elif isinstance(content, bytes):
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"b\.png"):
        read_image(path)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "I;16", "CMYK"])
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    Image.new(mode, (4, 3)).save(path)
    assert read_image(path).shape == (3, 4, 3)


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("upright", [True, False])
def test_16_bit_grey_keeps_its_range(tmp_path: Path, suffix: str, upright: bool) -> None:
    path = tmp_path / f"grey.{suffix}"
    eight = np.arange(256, dtype=np.uint16).reshape(16, 16)
    Image.fromarray(eight * 257).save(path)
    with Image.open(path) as image:
        assert image.mode.startswith("I")
    got = read_image(path, upright=upright)
    assert got.dtype == np.uint8
    assert np.array_equal(got, np.repeat(eight[..., None], 3, axis=2))


def test_grey_held_in_32_bits(tmp_path: Path) -> None:
    path = tmp_path / "grey.tif"
    Image.fromarray(np.array([[-5, 0, 257, 65535, 2**30]], np.int32)).save(path)
    assert read_image(path)[0, :, 0].tolist() == [0, 0, 1, 255, 255]


def test_damaged_dds_is_named(tmp_path: Path) -> None:
    """Pillow has not implemented what the damaged header asks for."""
    path = tmp_path / "d.dds"
    Image.new("RGB", (4, 4)).save(path)
    data = bytearray(path.read_bytes())
    data[80:84] = bytes(4)  # the flags of the pixel format
    path.write_bytes(data)
    with pytest.raises(NotImplementedError):
        Image.open(path)
    with pytest.raises(UserError, match=r"d\.dds cannot be read"):
        read_image(path)
