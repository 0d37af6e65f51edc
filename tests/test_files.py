from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

import pytest

from bihrnet_edge.errors import UserError
from bihrnet_edge.files import atomic_path, make_folder, sha256, write_text


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(KeyboardInterrupt), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_files_are_as_readable_as_any_other(tmp_path: Path) -> None:
    write_text(tmp_path / "ours", "x")
    (tmp_path / "plain").write_text("x")
    ours, plain = (stat.S_IMODE((tmp_path / n).stat().st_mode) for n in ("ours", "plain"))
    assert ours == plain


def test_folders_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file"):
        make_folder(tmp_path / "file" / "sub")
    with pytest.raises(UserError, match="cannot write"):
        write_text(tmp_path / "none" / "a.txt", "x")


def test_sha256(tmp_path: Path) -> None:
    data = os.urandom(3_000_000)
    (tmp_path / "a").write_bytes(data)
    assert sha256(tmp_path / "a") == hashlib.sha256(data).hexdigest()
