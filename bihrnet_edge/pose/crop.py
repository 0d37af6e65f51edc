"""From a person box in an image to the network's input, and coordinates back again.

Coordinates are pixel indices ``(x, y)``: ``(0, 0)`` is the centre of the top-left pixel. The mapping is
HRNet's: the crop's centre goes to ``(width / 2, height / 2)`` of the input, and a heatmap coordinate is
an input coordinate divided by the stride.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageOps

from bihrnet_edge.errors import UserError

#: HRNet and MPII state a person's size as a scale: 1 is 200 pixels.
PIXELS_PER_SCALE = 200.0


@dataclass(frozen=True)
class Crop:
    """An axis-aligned region of an image, in pixels of that image; it may leave the image."""

    center_x: float
    center_y: float
    width: float
    height: float

    @property
    def center_and_scale(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """HRNet's description of the same region: centre in pixels, width and height in units of 200 pixels."""
        return (
            (self.center_x, self.center_y),
            (self.width / PIXELS_PER_SCALE, self.height / PIXELS_PER_SCALE),
        )

    def matrix(self, size: tuple[int, int]) -> NDArray[np.float64]:
        """The affine map ``(2, 3)`` of image coordinates ``(x, y, 1)`` to an input of ``size`` (height, width).

        What HRNet gets from three pairs of points; without rotation two of the six numbers are 0.
        """
        scale, offset = self._scale_and_offset(size)
        return np.column_stack([np.diag(scale), offset])

    def _scale_and_offset(self, size: tuple[int, int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        height, width = size
        scale = np.array([width / self.width, height / self.height])
        offset = np.array([width / 2, height / 2]) - scale * np.array([self.center_x, self.center_y])
        return scale, offset

    def to_input(self, points: ArrayLike, size: tuple[int, int]) -> NDArray[np.float64]:
        """Image coordinates ``(..., 2)`` to coordinates of an input of ``size`` (height, width)."""
        scale, offset = self._scale_and_offset(size)
        return np.asarray(points, dtype=np.float64) * scale + offset

    def to_image(self, points: ArrayLike, size: tuple[int, int]) -> NDArray[np.float64]:
        """Inverse of :meth:`to_input`."""
        scale, offset = self._scale_and_offset(size)
        return (np.asarray(points, dtype=np.float64) - offset) / scale


def box_to_crop(box: Sequence[float], aspect: float, padding: float = 1.25) -> Crop:
    """The crop around a box ``(x, y, width, height)``: widened to ``aspect`` (width / height), then padded.

    Raises:
        UserError: the box has no area, or is not finite.
    """
    x, y, width, height = (float(value) for value in box)
    if not (np.isfinite([x, y, width, height]).all() and width > 0 and height > 0):
        raise UserError(f"the person box ({x:g}, {y:g}, {width:g}, {height:g}) has no area; give x, y, width, height.")
    center_x, center_y = x + width / 2, y + height / 2
    if width > aspect * height:
        height = width / aspect
    else:
        width = height * aspect
    return Crop(center_x, center_y, width * padding, height * padding)


def scale_to_crop(center: Sequence[float], scale: float, aspect: float, padding: float = 1.25) -> Crop:
    """The crop that HRNet takes around a centre ``(x, y)`` for a person of one scale, as MPII gives it.

    ``200 * scale * padding`` pixels wide and, the width alone deciding, that divided by ``aspect`` (width /
    height) high. Where HRNet has a scale for either axis, for COCO's boxes, it is :func:`box_to_crop`.

    Raises:
        UserError: the scale is not positive, or a number is not finite.
    """
    x, y = (float(value) for value in center)
    if not (np.isfinite([x, y, scale]).all() and scale > 0):
        raise UserError(f"a person of scale {scale:g} around ({x:g}, {y:g}) has no area; give a scale above 0.")
    width = PIXELS_PER_SCALE * scale * padding
    return Crop(x, y, width, width / aspect)


def read_image(path: Path, *, upright: bool = False) -> NDArray[np.uint8]:
    """An image file as RGB ``(H, W, 3)``.

    Args:
        path: the file.
        upright: turn the picture as its EXIF orientation says. Annotations of data sets refer to the
            pixels as they are stored, a phone's photograph is looked at upright.

    Raises:
        UserError: the file is missing, truncated or no image.
    """
    try:
        with path.open("rb") as file:
            return decode_image(file, f"image {path}", upright=upright)
    except FileNotFoundError as error:
        raise UserError(f"image {path} does not exist; check the path.") from error
    except (OSError, ValueError) as error:  # a folder, no permission, a zero byte in the name
        raise UserError(f"image {path} cannot be read ({error}); it may be truncated or no image.") from error


def decode_image(
    file: BinaryIO,
    name: str,
    *,
    upright: bool = False,
    formats: tuple[str, ...] | None = None,
    max_pixels: int | None = None,
) -> NDArray[np.uint8]:
    """An open image file as RGB ``(H, W, 3)``.

    Args:
        file: readable and seekable.
        name: what error messages call it.
        upright: as in :func:`read_image`.
        formats: Pillow's names of those that are accepted; all unless given.
        max_pixels: refuse a larger picture before its pixels take memory; Pillow's own limit unless given.

    Raises:
        UserError: the file is truncated, no image of these formats, or too large.
    """
    try:
        with Image.open(file, formats=formats) as image:
            if max_pixels is not None and image.width * image.height > max_pixels:
                raise UserError(
                    f"{name} has {image.width}x{image.height} pixels, more than {max_pixels / 1e6:g} million; "
                    "make it smaller."
                )
            turned = ImageOps.exif_transpose(image) if upright else image
            return _to_rgb(turned)
    except UserError:
        raise
    except Exception as error:  # Pillow's decoders raise whatever the damaged bytes lead them into
        raise UserError(f"{name} cannot be read ({error}); it may be truncated or no image.") from error


def _to_rgb(image: Image.Image) -> NDArray[np.uint8]:
    if not image.mode.startswith("I"):
        return np.asarray(image.convert("RGB"))
    # 16-bit greyscale, in some formats held in 32 bits; Pillow's conversion would cut it off at 255.
    grey = np.rint(np.asarray(image).clip(0, 65535) / 257).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def crop_image(image: NDArray[np.uint8], crop: Crop, height: int, width: int) -> NDArray[np.uint8]:
    """The crop resampled bilinearly to ``(height, width, 3)``; black outside the image."""
    scale_x, scale_y = crop.width / width, crop.height / height
    left, top = crop.to_image([0.0, 0.0], (height, width))
    # Pillow's coefficients map output to input in coordinates whose pixel centres lie at +0.5.
    coefficients = (scale_x, 0.0, left + 0.5 - 0.5 * scale_x, 0.0, scale_y, top + 0.5 - 0.5 * scale_y)
    resampled = Image.fromarray(image).transform(
        (width, height), Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR
    )
    return np.asarray(resampled)


def normalise(images: NDArray[np.uint8], mean: Sequence[float], std: Sequence[float]) -> NDArray[np.float32]:
    """``(pixel / 255 - mean) / std`` per channel of ``(..., 3)``."""
    scale = (1.0 / (255.0 * np.asarray(std))).astype(np.float32)
    offset = (-np.asarray(mean) / np.asarray(std)).astype(np.float32)
    normalised: NDArray[np.float32] = images.astype(np.float32) * scale + offset
    return normalised
