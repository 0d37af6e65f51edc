"""MATLAB's MAT-files of version 5, as far as annotations need: structs, cells, numbers and text, read when asked for.

Format: "MAT-File Format", The MathWorks, chapter 1 (Version 5). ``scipy.io.loadmat`` reads it too, but a damaged
file can end the process with a segmentation fault; here it ends in a :class:`MatError`. Nothing in a file is run.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

from bihrnet_edge.errors import UserError

_HEADER = 128
_MATRIX, _COMPRESSED = 14, 15
#: Letter of the ``struct`` module by MATLAB's data type.
_NUMBERS = {1: "b", 2: "B", 3: "h", 4: "H", 5: "i", 6: "I", 7: "f", 9: "d", 12: "q", 13: "Q"}
_TEXT = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
_CELL, _STRUCT, _CHAR, _FIRST_NUMERIC, _LAST_NUMERIC = 1, 2, 4, 6, 15


class MatError(ValueError):
    """The bytes contradict the format."""


class _Reader:
    """Elements of a byte string, in the byte order of the file that it comes from."""

    def __init__(self, data: memoryview, order: str) -> None:
        self.data = data
        self.order = order
        self._tag = struct.Struct(order + "II")
        self._one = {kind: struct.Struct(order + letter) for kind, letter in _NUMBERS.items()}
        self._head = struct.Struct(order + "IIIIIIiiII")

    def head(self, start: int, end: int) -> tuple[int, int, str, int]:
        """Class, number of elements and name of the array whose content is at ``start``, and where its data is."""
        if start + 40 <= end:  # most arrays are 2-D and nameless, and a release has millions of them
            a, b, flags, _, c, d, rows, columns, e, f = self._head.unpack_from(self.data, start)
            if (a, b, c, d, e, f) == (6, 8, 5, 8, 1, 0) and rows >= 0 and columns >= 0:
                return flags & 0xFF, rows * columns, "", start + 40
        words, start = self.values(start, end)
        shape, start = self.values(start, end)
        kind, first, last, start = self.element(start, end)
        if len(words) != 2 or kind not in (1, 2) or any(side < 0 for side in shape):
            raise MatError(f"an array before byte {start} has a malformed head")
        return int(words[0]) & 0xFF, math.prod(map(int, shape)), bytes(self.data[first:last]).decode("latin-1"), start

    def element(self, start: int, end: int) -> tuple[int, int, int, int]:
        """Type, first and last + 1 byte of the content of the element at ``start``, and where the next one is."""
        if start + 8 > end:
            raise MatError(f"an element at byte {start} is cut off")
        kind, size = self._tag.unpack_from(self.data, start)
        if kind >> 16:  # up to four bytes lie inside the tag
            kind, size, first, after = kind & 0xFFFF, kind >> 16, start + 4, start + 8
            if size > 4:
                raise MatError(f"an element at byte {start} is longer than its tag")
        else:
            first = start + 8
            after = first + (size if kind == _COMPRESSED else (size + 7) // 8 * 8)
        if first + size > end:
            raise MatError(f"an element at byte {start} is cut off")
        return kind, first, first + size, min(after, end)

    def values(self, start: int, end: int) -> tuple[list[float], int]:
        """The numbers of the element at ``start``, and where the next one is."""
        kind, first, last, after = self.element(start, end)
        one = self._one.get(kind)
        if one is None:
            raise MatError(f"an element at byte {start} holds no numbers")
        if last - first == one.size:
            return list(one.unpack_from(self.data, first)), after
        count, rest = divmod(last - first, one.size)
        if rest:
            raise MatError(f"an element at byte {start} holds a part of a number")
        return list(struct.unpack_from(f"{self.order}{count}{_NUMBERS[kind]}", self.data, first)), after


class MatArray:
    """One MATLAB array, decoded as far as it is asked for.

    Attributes:
        name: of the variable; empty for what lies inside another array.
    """

    __slots__ = ("_end", "_kind", "_reader", "_size", "_start", "name")

    def __init__(self, reader: _Reader, start: int, end: int) -> None:
        self._reader, self._end = reader, end
        # An empty array may be stored without a head.
        self._kind, self._size, self.name, self._start = (0, 0, "", end) if start == end else reader.head(start, end)

    def __len__(self) -> int:
        return self._size

    @property
    def is_struct(self) -> bool:
        """Whether it is a struct or an array of structs."""
        return self._kind == _STRUCT

    def structs(self) -> Iterator[dict[str, MatArray]]:
        """Its structs one after the other; nothing where it holds something else."""
        if not self.is_struct:
            return
        (length, *_), start = self._reader.values(self._start, self._end)
        _, first, last, start = self._reader.element(start, self._end)
        names = bytes(self._reader.data[first:last])
        if length < 1 or len(names) % int(length):
            raise MatError(f"field names before byte {start} are malformed")
        fields = [
            names[at : at + int(length)].partition(b"\0")[0].decode("latin-1")
            for at in range(0, len(names), int(length))
        ]
        for _ in range(self._size if fields else 0):
            members = {}
            for name in fields:
                members[name], start = self._member(start)
            yield members

    def cells(self) -> Iterator[MatArray]:
        """Its cells one after the other, down the columns; nothing where it holds something else."""
        start = self._start
        for _ in range(self._size if self._kind == _CELL else 0):
            member, start = self._member(start)
            yield member

    def numbers(self) -> list[float]:
        """Its numbers, down the columns; nothing where it holds something else."""
        if not (_FIRST_NUMERIC <= self._kind <= _LAST_NUMERIC and self._size):
            return []
        values, _ = self._reader.values(self._start, self._end)
        if len(values) != self._size:
            raise MatError(f"an array at byte {self._start} has {len(values)} numbers, not {self._size}")
        return values

    def text(self) -> str:
        """Its characters; empty where it holds something else."""
        if self._kind != _CHAR or not self._size:
            return ""
        kind, first, last, _ = self._reader.element(self._start, self._end)
        coding = _TEXT.get(kind)
        if coding is None:
            raise MatError(f"text at byte {first} has an unknown coding")
        if coding in ("utf-16", "utf-32"):
            coding += "-le" if self._reader.order == "<" else "-be"
        try:
            return bytes(self._reader.data[first:last]).decode(coding)
        except UnicodeDecodeError as error:
            raise MatError(f"text at byte {first} is not {coding}") from error

    def _member(self, start: int) -> tuple[MatArray, int]:
        kind, first, last, after = self._reader.element(start, self._end)
        if kind != _MATRIX:
            raise MatError(f"an element at byte {start} is no array")
        return MatArray(self._reader, first, last), after


def read_variable(path: Path, name: str) -> MatArray | None:
    """The variable called ``name`` of a MAT-file, or None where the file has none of that name.

    Raises:
        UserError: the file cannot be read, or is of MATLAB 7.3, which is another format.
        MatError: it is damaged, or no MAT-file at all.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"annotation file {path} cannot be read ({error.strerror}); check the path.") from error
    orders = {b"IM": "<", b"MI": ">"}
    order = orders.get(content[126:_HEADER])
    if order is None:
        raise MatError("it has no header of version 5")
    if struct.unpack_from(order + "H", content, 124)[0] == 0x0200:
        raise UserError(f"{path} is a MATLAB 7.3 file; load it in MATLAB and save it with -v7.")
    reader = _Reader(memoryview(content), order)
    start = _HEADER
    while start < len(content):
        kind, first, last, start = reader.element(start, len(content))
        inner = reader
        if kind == _COMPRESSED:
            try:
                inner = _Reader(memoryview(zlib.decompress(reader.data[first:last])), order)
            except zlib.error as error:
                raise MatError(str(error)) from error
            kind, first, last, _ = inner.element(0, len(inner.data))
        if kind == _MATRIX and (found := MatArray(inner, first, last)).name == name:
            return found
    return None
