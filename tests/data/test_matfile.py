"""The reader of MAT-files against scipy's, which wrote them."""

from __future__ import annotations

import struct
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bihrnet_edge.data.matfile import MatArray, MatError, read_variable
from bihrnet_edge.errors import UserError

io = pytest.importorskip("scipy.io")

NAMES = st.text("abcdefgh", min_size=1, max_size=20)
NUMBERS = hnp.arrays(
    st.sampled_from([np.float64, np.float32, np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64]),
    hnp.array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=4),
)
VALUES = st.recursive(
    NUMBERS | st.text("ab äß€", min_size=1, max_size=9),
    lambda inner: st.dictionaries(NAMES, inner, min_size=1, max_size=4) | st.lists(inner, min_size=1, max_size=3),
    max_leaves=12,
)


def cells(values: Any) -> Any:
    """Lists as cell arrays, down to the bottom."""
    if isinstance(values, dict):
        return {name: cells(value) for name, value in values.items()}
    if isinstance(values, list):
        array = np.empty((len(values), 1), object)
        for index, value in enumerate(values):
            array[index, 0] = cells(value)
        return array
    return values


def check(found: MatArray, wanted: Any) -> None:
    if isinstance(wanted, dict):
        (fields,) = found.structs()
        assert list(fields) == list(wanted)
        for name, value in wanted.items():
            check(fields[name], value)
    elif isinstance(wanted, list):
        for member, value in zip(found.cells(), wanted, strict=True):
            check(member, value)
    elif isinstance(wanted, str):
        assert (found.text(), found.numbers()) == (wanted, [])
    else:
        assert len(found) == wanted.size
        np.testing.assert_array_equal(np.array(found.numbers(), wanted.dtype), wanted.ravel(order="F"))
        assert (list(found.structs()), list(found.cells()), found.text()) == ([], [], "")


@given(VALUES, st.booleans())
@settings(deadline=None)
def test_reads_what_scipy_wrote(value: Any, compressed: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.mat"
        io.savemat(path, {"other": 3, "wanted": cells(value)}, do_compression=compressed)
        found = read_variable(path, "wanted")
        assert found is not None
        check(found, value)
        assert read_variable(path, "missing") is None


def test_big_endian(tmp_path: Path) -> None:
    def element(kind: int, content: bytes) -> bytes:
        return struct.pack(">II", kind, len(content)) + content.ljust((len(content) + 7) // 8 * 8, b"\0")

    body = element(6, struct.pack(">II", 6, 0)) + element(5, struct.pack(">ii", 1, 2)) + element(1, b"x")
    body += struct.pack(">HHhh", 4, 3, -5, 700)  # two int16 inside the tag
    path = tmp_path / "a.mat"
    path.write_bytes(b"MATLAB 5.0".ljust(124) + b"\x01\x00MI" + element(14, body))
    found = read_variable(path, "x")
    assert found is not None
    assert found.numbers() == [-5, 700]


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        read_variable(tmp_path / "gone.mat", "x")


@given(st.binary(max_size=200))
@settings(deadline=None)
def test_any_bytes_after_the_header(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.mat"
        path.write_bytes(b"MATLAB 5.0".ljust(124) + b"\x00\x01IM" + content)
        try:
            found = read_variable(path, "x")
            if found is not None:
                list(found.structs()), list(found.cells()), found.numbers(), found.text()
        except MatError:
            pass
