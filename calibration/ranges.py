"""Calibrated activation ranges as a file: made once, reused by every export of the same weights."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bihrnet_edge.calibration.mixed import Sensitivity
from bihrnet_edge.calibration.subset import hash_images
from bihrnet_edge.errors import UserError
from bihrnet_edge.files import make_folder, write_text

#: Of the file's format.
VERSION = 2
_SHA256 = re.compile(r"[0-9a-f]{64}")
_AGAIN = "calibrate again"


@dataclass(frozen=True)
class Ranges:
    """The ranges of a network's activations.

    Attributes:
        model: the network's name.
        weights_sha256: what :func:`weights_sha256` says of the weights.
        observer: that made them, e.g. ``percentile``.
        images: how many were run.
        annotations: name of the annotation file that they are of.
        annotations_sha256: hex digest of its bytes.
        image_sha256: hex digests of the image files, sorted; what an exporter's check images are held against.
        activations: ``(low, high)`` by the name of the layer that computes it; holds zero.
        offset: what int8 subtracts from each channel of the stem's output, see
            :mod:`~bihrnet_edge.calibration.offsets`; ``activations`` are of what that leaves. Empty: nothing.
        sensitivity: to int8, where a sweep was made; what ``mixed`` precision needs.
    """

    model: str
    weights_sha256: str
    observer: str
    images: int
    annotations: str
    annotations_sha256: str
    image_sha256: tuple[str, ...]
    activations: Mapping[str, tuple[float, float]]
    offset: tuple[float, ...] = ()
    sensitivity: Sensitivity | None = None

    def refuse_other_weights(self, weights: str, model: str) -> None:
        """A :class:`UserError` unless :func:`weights_sha256` of the weights is this."""
        if weights != self.weights_sha256:
            raise UserError(
                f"the ranges were calibrated with other weights (of {self.model!r}) than those of {model}; calibrate "
                "again with this checkpoint."
            )

    def refuse_images(self, images: Iterable[Path]) -> None:
        """A :class:`UserError` where an image that accuracy is checked on has calibrated the ranges."""
        used = set(self.image_sha256)
        for path, digest in hash_images(images).items():
            if digest in used:
                raise UserError(
                    f"image {path} has the same content as one that calibrated the ranges; check the accuracy on "
                    "other images."
                )

    def to_dict(self) -> dict[str, Any]:
        """JSON-serialisable."""
        return {
            "version": VERSION,
            "model": self.model,
            "weights_sha256": self.weights_sha256,
            "observer": self.observer,
            "images": self.images,
            "annotations": self.annotations,
            "annotations_sha256": self.annotations_sha256,
            "image_sha256": list(self.image_sha256),
            "activations": {name: list(ends) for name, ends in self.activations.items()},
            "offset": list(self.offset),
            "sensitivity": None if self.sensitivity is None else self.sensitivity.to_dict(),
        }


def weights_sha256(state: Mapping[str, Any]) -> str:
    """Hex digest of a ``state_dict``: names, types, shapes and values."""
    digest = hashlib.sha256()
    for name in sorted(state):
        values = np.ascontiguousarray(state[name].detach().cpu().numpy())
        digest.update(f"{name} {values.dtype.str} {values.shape}".encode() + values.tobytes())
    return digest.hexdigest()


def write_ranges(path: Path, ranges: Ranges) -> None:
    """Write ranges as JSON, whole or not at all.

    Raises:
        UserError: the file cannot be written.
    """
    make_folder(path.resolve().parent)
    write_text(path, json.dumps(ranges.to_dict(), indent=1, allow_nan=False) + "\n")


def read_ranges(path: Path) -> Ranges:
    """Inverse of :func:`write_ranges`.

    Raises:
        UserError: the file is missing, malformed, or of another version; says where.
    """
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise UserError(f"ranges {path} cannot be read ({error.strerror}); check the path.") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"ranges {path} are not JSON ({error}); the file may be truncated.") from error
    where = f"ranges {path}"
    version = _field(document, "version", int, where)
    if version != VERSION:
        raise UserError(f"{where} have version {version}, this bihrnet-edge reads {VERSION}; {_AGAIN}.")
    activations = _field(document, "activations", dict, where)
    digests = _field(document, "image_sha256", list, where)
    return Ranges(
        _field(document, "model", str, where),
        _digest(_field(document, "weights_sha256", str, where), where),
        _field(document, "observer", str, where),
        _field(document, "images", int, where),
        _field(document, "annotations", str, where),
        _digest(_field(document, "annotations_sha256", str, where), where),
        tuple(_digest(digest, where) for digest in digests),
        {name: _ends(ends, f"{where}, activation {name!r}") for name, ends in activations.items()},
        tuple(_number(value, f"{where}, offset,") for value in _field(document, "offset", list, where)),
        None if document.get("sensitivity") is None else _sensitivity(document, activations, f"{where}, sensitivity,"),
    )


def _sensitivity(document: Any, activations: Mapping[str, Any], where: str) -> Sensitivity:
    found = _field(document, "sensitivity", dict, where)
    alone, kept = _field(found, "alone", dict, where), _field(found, "kept", list, where)
    if set(alone) != set(activations) or not all(isinstance(name, str) and name in activations for name in kept):
        raise UserError(f"{where} name other activations than the ranges; {_AGAIN}.")
    return Sensitivity(
        _field(found, "images", int, where),
        _error(found.get("int8"), where),
        _error(found.get("mixed"), where),
        {name: _error(value, where) for name, value in alone.items()},
        tuple(kept),
    )


def _error(value: Any, where: str) -> float:
    if type(value) not in (int, float) or not 0.0 <= value < math.inf:
        raise UserError(f"{where} hold {value!r} where an error, 0 or greater, should be; {_AGAIN}.")
    return float(value)


def _number(value: Any, where: str) -> float:
    if type(value) not in (int, float) or not math.isfinite(value):
        raise UserError(f"{where} hold {value!r} where a finite number should be; {_AGAIN}.")
    return float(value)


def _field(document: Any, key: str, kind: type, where: str) -> Any:
    value = document.get(key) if isinstance(document, dict) else None
    if not isinstance(value, kind) or isinstance(value, bool):
        raise UserError(f"{where} have no usable {key!r}; {_AGAIN}.")
    return value


def _digest(value: Any, where: str) -> str:
    if not isinstance(value, str) or not _SHA256.fullmatch(value):
        raise UserError(f"{where} hold {value!r} where a SHA-256 in hexadecimal should be; {_AGAIN}.")
    return value


def _ends(value: Any, where: str) -> tuple[float, float]:
    numbers = isinstance(value, list) and len(value) == 2 and all(type(end) in (int, float) for end in value)
    if not numbers or not all(map(math.isfinite, value)) or not value[0] <= 0.0 <= value[1]:
        raise UserError(f"{where}: {value!r} is no range of two finite numbers with zero between them; {_AGAIN}.")
    return float(value[0]), float(value[1])
