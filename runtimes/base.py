"""What every runtime offers: normalised images in, heatmaps out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from types import TracebackType
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from bihrnet_edge.errors import UserError
from bihrnet_edge.pose.metadata import PoseMetadata

Images = NDArray[np.float32]
Heatmaps = NDArray[np.float32]
_R = TypeVar("_R", bound="Runner")


class Runner(ABC):
    """A model that is ready to run.

    :meth:`run` is what callers want. :meth:`prepare`, :meth:`invoke` and :meth:`heatmaps` are its three
    steps, apart so that the network alone can be timed.

    Attributes:
        name: the runtime's name.
        metadata: how to feed the model and how to read its heatmaps.
        batch: images that one :meth:`invoke` takes; None where any number will do.
        delegate: the kernels of the native delegate, e.g. ``avx2``; None where it takes no part.
    """

    name: str
    metadata: PoseMetadata
    batch: int | None = 1
    delegate: str | None = None

    @abstractmethod
    def prepare(self, images: Images) -> None:
        """Hand over ``batch`` images, float32 ``(N, H, W, 3)``, normalised."""

    @abstractmethod
    def invoke(self) -> None:
        """Run the network on what was prepared. May be called again and again."""

    @abstractmethod
    def heatmaps(self) -> Heatmaps:
        """Heatmaps of the last :meth:`invoke`, float32 ``(N, K, h, w)``: a copy."""

    def close(self) -> None:
        """Give the memory back; the runner cannot be used afterwards."""
        self.__dict__.clear()

    @property
    def label(self) -> str:
        """What people read as the runtime."""
        return runtime_label(self.name, self.delegate)

    @property
    def heatmap_shape(self) -> tuple[int, int, int]:
        """``(K, h, w)``."""
        stride = self.metadata.heatmap_stride
        return len(self.metadata.keypoints), self.metadata.input_height // stride, self.metadata.input_width // stride

    def run(self, images: Images) -> Heatmaps:
        """Normalised images, float32 ``(N, H, W, 3)``, to heatmaps, float32 ``(N, K, h, w)``.

        Raises:
            ValueError: the images are not of the model's size.
        """
        expected = (self.metadata.input_height, self.metadata.input_width, 3)
        if images.ndim != 4 or images.shape[1:] != expected:
            raise ValueError(f"images have shape {images.shape}, the model takes (N, {', '.join(map(str, expected))})")
        count = len(images)
        result = np.empty((count, *self.heatmap_shape), np.float32)
        step = self.batch or max(count, 1)
        for start in range(0, count, step):
            chunk = np.ascontiguousarray(images[start : start + step], np.float32)
            size = len(chunk)
            if size < step:  # a fixed batch is filled up; what the filling gives is dropped
                chunk = np.concatenate([chunk, np.zeros((step - size, *expected), np.float32)])
            self.prepare(chunk)
            self.invoke()
            result[start : start + size] = self.heatmaps()[:size]
        return result

    def __enter__(self: _R) -> _R:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@dataclass(frozen=True)
class Quantization:
    """How a runtime's tensor holds real values: ``(q - zero_point) * scale``; float32 where ``scale`` is None."""

    dtype: np.dtype[Any]
    scale: float | None
    zero_point: int

    def encode(self, values: NDArray[np.float32]) -> NDArray[Any]:
        """Real values to the tensor's type; integers round to nearest and saturate."""
        if self.scale is None:
            return values
        limits = np.iinfo(self.dtype)
        codes: NDArray[Any] = np.rint(values / self.scale) + self.zero_point
        return codes.clip(limits.min, limits.max).astype(self.dtype)

    def decode(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """Inverse of :meth:`encode`, but for the rounding."""
        if self.scale is None:
            return values.astype(np.float32, copy=False)
        return (values.astype(np.float32) - self.zero_point) * np.float32(self.scale)


def runtime_label(name: str, delegate: str | None) -> str:
    """``litert + delegate (avx2)``, or the name alone where there is no delegate."""
    return name if delegate is None else f"{name} + delegate ({delegate})"


def parse_metadata(text: str | bytes, source: object) -> PoseMetadata:
    """Metadata as an artifact stores it; a :class:`UserError` that names ``source`` where it is malformed."""
    try:
        return PoseMetadata.from_json(text)
    except UserError as error:
        raise UserError(f"{source}: {error}") from error


class NoMetadataError(UserError):
    """A model that is none of this project's: it can be timed, but not fed with pictures."""


def require_metadata(metadata: PoseMetadata | None, source: object) -> PoseMetadata:
    """``metadata``, or a :class:`NoMetadataError` which says that the file at ``source`` has none."""
    if metadata is None:
        raise NoMetadataError(
            f"{source} carries no bihrnet-edge metadata (input size, normalisation, joints); "
            "export it with bihrnet-edge."
        )
    return metadata


def check_threads(threads: int) -> int:
    """``threads``, or a :class:`UserError` where that is not 1 or more."""
    if threads < 1:
        raise UserError(f"the number of threads is {threads}; give 1 or more.")
    return threads


def is_channels_last(
    shape: tuple[Any, ...], metadata: PoseMetadata, source: object, what: str, *, prefer_last: bool
) -> bool:
    """Whether an input is ``(N, H, W, 3)`` and not ``(N, 3, H, W)``; sizes that are no numbers match any.

    ``prefer_last`` is the answer where both fit: the layout that files of this format have.

    Raises:
        UserError: the shape fits neither; the file contradicts its metadata.
    """
    return _layout(shape, (3, metadata.input_height, metadata.input_width), source, what, prefer_last)


def is_heatmap_channels_last(
    shape: tuple[Any, ...], metadata: PoseMetadata, source: object, *, prefer_last: bool
) -> bool:
    """The same for an output of ``(N, h, w, K)`` or ``(N, K, h, w)``."""
    stride = metadata.heatmap_stride
    size = (len(metadata.keypoints), metadata.input_height // stride, metadata.input_width // stride)
    return _layout(shape, size, source, "output", prefer_last)


def _layout(shape: tuple[Any, ...], size: tuple[int, int, int], source: object, what: str, prefer_last: bool) -> bool:
    def fits(expected: tuple[int, ...]) -> bool:
        return len(shape) == 4 and all(
            not isinstance(have, int) or have == want for have, want in zip(shape[1:], expected, strict=True)
        )

    channels, height, width = size
    first, last = fits((channels, height, width)), fits((height, width, channels))
    if first or last:
        return last and (prefer_last or not first)
    raise UserError(
        f"{source}: its {what} has shape {tuple(shape)}, which does not fit its metadata "
        f"({channels} channels of {height}x{width}); export it again."
    )
