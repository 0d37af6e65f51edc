"""Predictions of a long run kept in a file, so that a run that was stopped goes on where it was."""

from __future__ import annotations

import hashlib
import json
import time
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bihrnet_edge.errors import UserError
from bihrnet_edge.files import atomic_path, make_folder
from bihrnet_edge.runtimes.crops import Boxed

#: Seconds between two writes: little to lose, and writing costs nothing beside them.
_INTERVAL = 30.0


def fingerprint(people: Sequence[Boxed]) -> str:
    """SHA-256 of what is predicted: the people's boxes, and the names and sizes of their images, in order.

    Folders do not enter, so that data may move between two runs.
    """
    digest = hashlib.sha256()
    sizes: dict[Path, int] = {}
    for person in people:
        path = person.image_path
        if path not in sizes:
            try:
                sizes[path] = path.stat().st_size
            except OSError as error:
                raise UserError(f"image {path} cannot be read ({error.strerror}); check the path.") from error
        entry = [path.name, sizes[path], *(float(value).hex() for value in person.box)]
        digest.update(json.dumps(entry).encode())
    return digest.hexdigest()


class PartialPredictions:
    """A file of the predictions made so far.

    Args:
        path: the file; made where it does not exist, with its folder.
        key: what the predictions depend on, by its name in a sentence (``model``, ``data``, ``--decoding``).
        interval: seconds between two writes; 0 writes after every batch.
    """

    def __init__(self, path: Path, key: Mapping[str, str], interval: float = _INTERVAL) -> None:
        self._path, self._key, self._interval = path, dict(key), interval
        self._written, self._rows = time.monotonic(), -1

    def load(self, total: int, joints: int) -> NDArray[np.float32]:
        """The first predictions ``(n, joints, 3)``, ``n`` from 0 to ``total``, in the order of their making.

        Raises:
            UserError: the file cannot be read, is damaged, or belongs to something else; says what differs.
        """
        if not self._path.exists():
            make_folder(self._path.resolve().parent)
            return np.empty((0, joints, 3), np.float32)
        try:
            with np.load(self._path, allow_pickle=False) as stored:
                key, rows = json.loads(str(stored["key"])), np.asarray(stored["predictions"])
        except OSError as error:
            raise UserError(f"--resume {self._path} cannot be read ({error.strerror or error}).") from error
        except (ValueError, KeyError, EOFError, TypeError, AttributeError, zipfile.BadZipFile) as error:
            raise UserError(
                f"--resume {self._path} holds no predictions of an earlier run, or is damaged; give another file, or "
                "remove it to begin anew."
            ) from error
        other = next(
            (name for name in self._key if not isinstance(key, dict) or key.get(name) != self._key[name]), None
        )
        if other is not None:
            raise UserError(
                f"--resume {self._path} was begun with another {other}; give another file, or remove it to begin anew."
            )
        if rows.dtype != np.float32 or rows.ndim != 3 or rows.shape[1:] != (joints, 3) or len(rows) > total:
            raise UserError(f"--resume {self._path} is damaged; remove it to begin anew.")
        self._rows = len(rows)
        return rows

    def due(self) -> bool:
        """Whether it is time to :meth:`save`."""
        return time.monotonic() - self._written >= self._interval

    def save(self, rows: NDArray[np.float32]) -> None:
        """Write the predictions made so far ``(n, joints, 3)``, whole or not at all.

        Raises:
            UserError: the file cannot be written.
        """
        if len(rows) != self._rows:
            with atomic_path(self._path) as temporary, temporary.open("wb") as file:
                np.savez(file, key=np.array(json.dumps(self._key)), predictions=rows)
            self._rows = len(rows)
        self._written = time.monotonic()
