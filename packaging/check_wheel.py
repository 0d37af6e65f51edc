"""Check built wheels for Linux, and print a table of them.

example: python packaging/check_wheel.py dist/bihrnet_edge-*.tar.gz dist/bihrnet_edge-*.whl
"""

from __future__ import annotations

import argparse
import base64
import csv
import ctypes
import hashlib
import io
import os
import platform
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

NATIVE = "bihrnet_edge/runtimes/native/"
LIBRARY = NATIVE + "libbihrnet_lce.so"
INSTALLED = {LIBRARY, NATIVE + "bihrnet_lce.h"}
#: Files that no import would miss.
PAGE = {f"bihrnet_edge/runtimes/demo/page/{name}" for name in ("index.html", "demo.css", "demo.js", "picture.js")}
#: Architecture of a wheel's tag to what readelf calls the machine.
MACHINES = {"x86_64": "Advanced Micro Devices X86-64", "aarch64": "AArch64"}
#: What every glibc system has.
ALLOWED_LIBRARIES = re.compile(r"(libc|libm)\.so\.6|(libpthread|libdl)\.so\.[02]|ld-linux-[a-z0-9-]+\.so\.[12]")
EXPORTED = re.compile(r"bihrnet_lce_\w+|tflite_plugin_(create|destroy)_delegate")
#: In the sdist: what builds the library; not: what only its authors need.
SOURCES = {"CMakeLists.txt", "runtimes/native/CMakeLists.txt", "runtimes/native/include/bihrnet_lce.h", "PKG-INFO"}
MANYLINUX = re.compile(r"py3-none-manylinux_(\d+)_(\d+)_(\w+)")
#: Errors of a file that is not an archive, has a file missing, or a library that cannot be loaded or lacks a function.
UNREADABLE = (OSError, KeyError, AttributeError, zipfile.BadZipFile, tarfile.TarError)


class CheckError(Exception):
    """A file that must not be handed out; the message says why."""


def _readelf(library: Path, *options: str) -> str:
    command = ["readelf", "--wide", *options, str(library)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"LC_ALL": "C"}, check=False)
    if done.returncode != 0:
        raise CheckError(f"readelf cannot read the library: {done.stderr.strip()}")
    return done.stdout


def _undefined(symbols: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Name and glibc version of every symbol that is wanted of glibc."""
    for name, version in re.findall(r" UND (\w+)@GLIBC_([\d.]+)", symbols):
        yield name, tuple(int(part) for part in version.split("."))


def check_library(library: Path, architecture: str, glibc: tuple[int, int]) -> str:
    """The newest glibc that an ELF library needs.

    Args:
        library: the file.
        architecture: that it must be for.
        glibc: the newest version that it may need.

    Raises:
        CheckError: it is another machine's, needs what not every Linux has, or shows more than its interface.
    """
    header, dynamic = _readelf(library, "--file-header"), _readelf(library, "--dynamic")
    if MACHINES[architecture] not in header:
        raise CheckError(f"the library is not for {architecture}")
    for needed in re.findall(r"\(NEEDED\).*\[(.*)\]", dynamic):
        if not ALLOWED_LIBRARIES.fullmatch(needed):
            raise CheckError(f"the library needs {needed}")
    if found := re.search(r"\((RPATH|RUNPATH|TEXTREL)\)", dynamic):
        raise CheckError(f"the library has a {found[1]}")
    if re.search(r"GNU_STACK .* RWE ", _readelf(library, "--program-headers")):
        raise CheckError("the library asks for an executable stack")
    if ".symtab" in _readelf(library, "--section-headers"):
        raise CheckError("the library is not stripped")
    symbols = _readelf(library, "--dyn-syms")
    exported = set(re.findall(r" GLOBAL +DEFAULT +\d+ (\w+)", symbols))
    if foreign := sorted(name for name in exported if not EXPORTED.fullmatch(name)):
        raise CheckError(f"the library exports {', '.join(foreign[:5])}")
    if not exported:
        raise CheckError("the library exports nothing")
    undefined = dict(_undefined(symbols))
    if newer := sorted(name for name, version in undefined.items() if version > glibc):
        raise CheckError(
            f"the library needs {', '.join(newer)} of a glibc newer than {glibc[0]}.{glibc[1]}; avoid them, or add "
            "them to packaging/old_glibc.c"
        )
    return ".".join(str(part) for part in max(undefined.values(), default="-"))


def _check_record(wheel: zipfile.ZipFile, record: str) -> None:
    rows = {row[0]: row[1:] for row in csv.reader(io.StringIO(wheel.read(record).decode()))}
    names = [name for name in wheel.namelist() if not name.endswith("/")]
    if len(names) != len(set(names)) or set(names) != set(rows):
        raise CheckError(f"RECORD does not list what is there: {sorted(set(names) ^ set(rows))[:5]}")
    for name in names:
        digest = base64.urlsafe_b64encode(hashlib.sha256(wheel.read(name)).digest()).decode().rstrip("=")
        if name != record and rows[name] != [f"sha256={digest}", str(wheel.getinfo(name).file_size)]:
            raise CheckError(f"RECORD is wrong on {name}")


def check_wheel(path: Path) -> tuple[str, str]:
    """Tag and newest glibc of a wheel.

    Raises:
        CheckError: its tag, contents, RECORD or library are not what they must be.
    """
    name, version, tag = [*path.stem.split("-", 2), "", ""][:3]
    if not (found := MANYLINUX.fullmatch(tag)) or found[3] not in MACHINES:
        raise CheckError(f"its tag is {tag!r}")
    with zipfile.ZipFile(path) as wheel:
        information = f"{name}-{version}.dist-info/"
        metadata = wheel.read(information + "WHEEL").decode()
        if re.findall(r"^Tag: (.*)$", metadata, re.M) != [tag] or "Root-Is-Purelib: false" not in metadata:
            raise CheckError("WHEEL has another tag than the file name")
        files = {entry for entry in wheel.namelist() if not entry.endswith("/")}
        if foreign := sorted(entry for entry in files if not entry.startswith(("bihrnet_edge/", information))):
            raise CheckError(f"it holds {', '.join(foreign[:5])}")
        if (native := {entry for entry in files if entry.startswith(NATIVE)}) != INSTALLED:
            raise CheckError(f"in {NATIVE} it holds {sorted(native)}")
        if missing := sorted(PAGE - files):
            raise CheckError(f"it lacks {', '.join(missing)}")
        _check_record(wheel, information + "RECORD")
        with tempfile.TemporaryDirectory() as folder:
            library = Path(wheel.extract(LIBRARY, folder))
            needed = check_library(library, found[3], (int(found[1]), int(found[2])))
            if found[3] == platform.machine():
                function = ctypes.CDLL(str(library)).bihrnet_lce_version
                function.restype = ctypes.c_char_p
                if (said := function().decode()).split()[0] != version:
                    raise CheckError(f"the library says that it is {said}")
    return tag, needed


def check_sdist(path: Path) -> tuple[str, str]:
    """What stands in the table for a source distribution.

    Raises:
        CheckError: it lacks a source, or holds what is built.
    """
    with tarfile.open(path) as archive:
        files = {entry.name.partition("/")[2] for entry in archive.getmembers() if entry.isfile()}
    if missing := sorted(SOURCES - files):
        raise CheckError(f"it lacks {', '.join(missing)}")
    if foreign := sorted(f for f in files if f.endswith((".so", ".whl", ".pyc")) or "/corpus/" in f):
        raise CheckError(f"it holds {', '.join(foreign[:5])}")
    return "source", "-"


def main() -> int:
    """0, or 1 with one sentence where a file must not be handed out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    rows = [("file", "bytes", "tag", "newest glibc needed")]
    for path in parser.parse_args().files:
        try:
            tag, needed = (check_wheel if path.suffix == ".whl" else check_sdist)(path)
        except (CheckError, *UNREADABLE) as error:
            print(f"check_wheel: {path.name}: {str(error).splitlines()[0].rstrip(':')}.", file=sys.stderr)
            return 1
        rows.append((path.name, f"{path.stat().st_size:,}", tag, needed))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return 0


if __name__ == "__main__":
    sys.exit(main())
