"""A FlatBuffers reader that checks every offset.

The accessors of the ``flatbuffers`` package trust the file, and so do TFLite's interpreters: a truncated
file makes them read outside the buffer and takes the process down. Format:
https://flatbuffers.dev/internals.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray


class FlatbufferError(ValueError):
    """An offset or a length points outside the buffer."""


class Buffer:
    """Bytes that are read with bounds checks. All values are little-endian."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def scalar(self, position: int, code: str) -> Any:
        """The number at a byte position; ``code`` is a :mod:`struct` character."""
        if position < 0 or position + struct.calcsize(code) > len(self.data):
            raise FlatbufferError(f"byte {position} lies outside the file of {len(self.data)} bytes")
        return struct.unpack_from("<" + code, self.data, position)[0]

    def vector(self, position: int, dtype: str) -> NDArray[Any]:
        """The vector whose length field is at ``position``: a view, not a copy."""
        length = self.scalar(position, "I")
        kind = np.dtype(dtype).newbyteorder("<")
        if position + 4 + length * kind.itemsize > len(self.data):
            raise FlatbufferError(f"a vector of {length} entries at byte {position} runs past the end of the file")
        return np.frombuffer(self.data, kind, length, position + 4)

    def root(self) -> Table:
        """The table that the file starts from."""
        return Table(self, self.scalar(0, "I"))


class Table:
    """A table; fields are addressed by their number in the schema and have defaults."""

    def __init__(self, buffer: Buffer, position: int) -> None:
        if position % 4:
            raise FlatbufferError(f"a table at byte {position} is not aligned")
        self.buffer = buffer
        self.position = position
        vtable = position - buffer.scalar(position, "i")
        size, table_size = buffer.scalar(vtable, "H"), buffer.scalar(vtable + 2, "H")
        if size < 4 or size % 2 or vtable + size > len(buffer.data) or position + table_size > len(buffer.data):
            raise FlatbufferError(f"the table at byte {position} runs past the end of the file")
        self._fields = struct.unpack_from(f"<{size // 2 - 2}H", buffer.data, vtable + 4)
        if any(offset >= table_size for offset in self._fields):
            raise FlatbufferError(f"a field of the table at byte {position} lies outside it")

    def _at(self, field: int) -> int | None:
        offset = self._fields[field] if field < len(self._fields) else 0
        return self.position + offset if offset else None

    def _target(self, field: int) -> int | None:
        at = self._at(field)
        return None if at is None else at + int(self.buffer.scalar(at, "I"))

    def scalar(self, field: int, code: str, default: int = 0) -> int:
        """A whole number, ``default`` where absent."""
        at = self._at(field)
        return default if at is None else int(self.buffer.scalar(at, code))

    def vector(self, field: int, dtype: str) -> NDArray[Any] | None:
        """A vector of numbers, or None where the field is absent."""
        target = self._target(field)
        return None if target is None else self.buffer.vector(target, dtype)

    def string(self, field: int) -> str:
        """UTF-8 text, empty where absent."""
        text = self.vector(field, "u1")
        return "" if text is None else text.tobytes().decode(errors="replace")

    def table(self, field: int) -> Table | None:
        """A table, or None where absent."""
        target = self._target(field)
        return None if target is None else Table(self.buffer, target)

    def tables(self, field: int) -> list[Table]:
        """A vector of tables, empty where absent."""
        target = self._target(field)
        if target is None:
            return []
        offsets = self.buffer.vector(target, "u4")
        return [Table(self.buffer, target + 4 + 4 * i + int(offset)) for i, offset in enumerate(offsets)]
