"""People as ``uint8`` canvases: decoded and cropped once and kept in a file, or cut from their images every time.

A canvas is the padded box enlarged by :data:`MARGIN`, so that rotation and scaling have something to show.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bihrnet_edge.data.dataset import PoseDataset
from bihrnet_edge.errors import UserError
from bihrnet_edge.files import atomic_path, write_text
from bihrnet_edge.pose.crop import Crop, box_to_crop, crop_image, read_image
from bihrnet_edge.pose.metadata import PoseMetadata
from bihrnet_edge.training.augment import Augmentation, Batch, Changes, draw_changes, transform
from bihrnet_edge.training.loader import stream

#: Canvas side over padded-box side.
MARGIN = 1.4
#: People that are read at once for the file.
_CHUNK = 32


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


def _are_kept(cache: Path, key: str) -> bool:
    """Whether the canvases in the file are those of ``key``."""
    try:
        return _digest_path(cache).read_text(encoding="utf-8").strip() == key
    except (OSError, ValueError):
        return False


def _map_canvases(cache: Path, shape: tuple[int, ...]) -> NDArray[np.uint8] | None:
    """The canvases in the file, mapped, so that processes share them; None where there are none to read."""
    try:
        canvases = np.load(cache, mmap_mode="c")  # never written to; torch warns of arrays that cannot be
    except (OSError, ValueError, EOFError):
        return None
    if not isinstance(canvases, np.ndarray) or canvases.shape != shape or canvases.dtype != np.uint8:
        return None
    return canvases


def _write_header(file: BinaryIO, shape: tuple[int, ...]) -> None:
    """What comes before the pixels in an ``.npy`` file."""
    header = {"descr": np.dtype(np.uint8).str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)  # type: ignore[no-untyped-call]


class CropCache:
    """All people of a data set as canvases ``(P, H, W, 3)`` with their joints in canvas pixels.

    Attributes:
        canvases: uint8; None where every batch is cut from the images anew.
        points: float32 ``(P, K, 2)``.
        visible: bool ``(P, K)``.
        size: canvas height and width.
        workers: processes that :meth:`stream` reads with.
    """

    def __init__(self, dataset: PoseDataset, metadata: PoseMetadata, canvas_height: int, *, workers: int = 0) -> None:
        aspect = metadata.input_width / metadata.input_height
        self.size = canvas_height, round(canvas_height * aspect)
        self.workers = workers
        self.canvases: Tensor | None = None
        self._paths = [person.image_path for person in dataset.people]
        self._crops: list[Crop] = []
        points = np.empty((len(dataset.people), len(dataset.keypoints), 2), np.float32)
        visible = np.empty(points.shape[:2], np.bool_)
        for i, person in enumerate(dataset.people):
            self._crops.append(crop := box_to_crop(person.box, aspect, metadata.box_padding * MARGIN))
            points[i] = crop.to_input(person.keypoints, self.size)
            visible[i] = person.visible
        self.points, self.visible = torch.from_numpy(points), torch.from_numpy(visible)

    def __len__(self) -> int:
        return len(self._paths)

    @property
    def device(self) -> torch.device:
        """Where batches are made."""
        return self.points.device

    def to(self, device: torch.device, *, canvases: bool) -> None:
        """Make batches on the accelerator; ``canvases`` moves those there as well, once."""
        self.points, self.visible = self.points.to(device), self.visible.to(device)
        if canvases and self.canvases is not None:
            self.canvases = self.canvases.to(device)

    @classmethod
    def build(
        cls,
        dataset: PoseDataset,
        metadata: PoseMetadata,
        *,
        canvas_height: int,
        cache: Path | None = None,
        workers: int = 0,
        progress: Callable[[int, int], None] | None = None,
    ) -> CropCache:
        """Decode and crop every person; ``cache`` (an ``.npy`` file) keeps the canvases between runs.

        Beside it, a ``.sha256`` file says of which crops they are; the canvases of others are not used. They are
        mapped from the file, never all in memory; without one they are.

        Raises:
            UserError: an image cannot be read, or the file not written.
        """
        crops = cls(dataset, metadata, canvas_height, workers=workers)
        shape = (len(crops), *crops.size, 3)
        report = progress or (lambda done, total: None)
        if cache is None:
            canvases = np.empty(shape, np.uint8)
            crops._read_all(canvases.__setitem__, report)
        else:
            key = _crops_digest(dataset, metadata, shape)
            mapped = _map_canvases(cache, shape) if _are_kept(cache, key) else None
            if mapped is None:
                crops._write(cache, key, report)
                mapped = _map_canvases(cache, shape)
            if mapped is None:
                raise UserError(f"{cache} cannot be read back; is another run at work in that folder?")
            canvases = mapped
        crops.canvases = torch.from_numpy(canvases)
        return crops

    def _read_all(
        self, put: Callable[[slice, NDArray[np.uint8]], object], progress: Callable[[int, int], None]
    ) -> None:
        done = 0
        for canvases in self.stream(torch.split(torch.arange(len(self)), _CHUNK)):
            put(slice(done, done + len(canvases)), canvases.numpy())
            done += len(canvases)
            progress(done, len(self))

    def _write(self, cache: Path, key: str, progress: Callable[[int, int], None]) -> None:
        # The old digest goes first: a run killed between the two files must not leave a pair that disagrees.
        with atomic_path(cache) as temporary:
            with temporary.open("wb") as file:
                _write_header(file, (len(self), *self.size, 3))
                self._read_all(lambda place, canvases: file.write(canvases.data), progress)
            _digest_path(cache).unlink(missing_ok=True)
        write_text(_digest_path(cache), key + "\n")

    def _cut(self, indices: NDArray[Any]) -> Tensor:
        """Canvases of some people, from their images."""
        height, width = self.size
        cut = [crop_image(read_image(self._paths[i]), self._crops[i], height, width) for i in indices]
        return torch.from_numpy(np.stack(cut))

    def _look_up(self, indices: NDArray[Any]) -> Tensor:
        assert self.canvases is not None
        return torch.from_numpy(self.canvases.numpy()[indices])

    def stream(self, requests: Iterable[Tensor]) -> Iterator[Tensor]:
        """Canvases uint8 ``(N, H, W, 3)`` of each request's people, in order; read ahead by the workers.

        Raises:
            UserError: an image cannot be read; the sentence names it.
        """
        if self.canvases is not None and not self.workers:
            kept = self.canvases
            return (kept[indices.to(kept.device)] for indices in requests)
        return stream(
            self._cut if self.canvases is None else self._look_up,
            (indices.numpy() for indices in requests),
            workers=self.workers,
            pin_memory=self.device.type == "cuda",
        )

    def batch(
        self,
        indices: Tensor,
        size: tuple[int, int],
        metadata: PoseMetadata,
        augmentation: Augmentation | None = None,
        generator: torch.Generator | None = None,
        share: slice = slice(None),
        canvases: Tensor | None = None,
    ) -> Batch:
        """Sample people at ``size`` (height, width), augmented where ``augmentation`` is given.

        ``share`` is the part of ``indices`` that this process takes, ``canvases`` are those of that part where they
        have been read already. The random changes are drawn for all people, so that a person is changed alike
        whoever takes it.
        """
        changes: Changes | None = None
        if augmentation is not None:
            changes = draw_changes(augmentation, len(indices), generator).take(share)
        mine = indices[share]
        if canvases is None:
            (canvases,) = self.stream([mine])
        mine = mine.to(self.device)
        return transform(
            canvases.to(self.device, non_blocking=True),
            self.points[mine], self.visible[mine], size, metadata, MARGIN, augmentation, changes,
        )  # fmt: skip
