from __future__ import annotations

import base64
import hashlib
import platform
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "packaging" / "check_wheel.py"
MACHINE = platform.machine()
PAGE = ("index.html", "demo.css", "demo.js", "picture.js")
TAG = f"py3-none-manylinux_2_27_{MACHINE}"
SOURCE = 'const char* bihrnet_lce_version(void) { return "0.1.0 scalar"; }\n'

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("cc") is None or shutil.which("readelf") is None,
    reason="needs a C compiler and readelf",
)


def compile_library(folder: Path, source: str, *options: str, strip: bool = True) -> bytes:
    (folder / "library.c").write_text(source)
    command = ["cc", "-shared", "-fPIC", "library.c", "-o", "library.so", *(["-s"] if strip else []), *options]
    subprocess.run(command, cwd=folder, check=True)
    return (folder / "library.so").read_bytes()


def write_wheel(
    folder: Path,
    library: bytes,
    tag: str = TAG,
    extra: dict[str, bytes] | None = None,
    record: str | None = None,
    without: tuple[str, ...] = (),
) -> Path:
    files = {
        "bihrnet_edge/__init__.py": b"",
        "bihrnet_edge/runtimes/native/bihrnet_lce.h": b"",
        "bihrnet_edge/runtimes/native/libbihrnet_lce.so": library,
        "bihrnet_edge-0.1.0.dist-info/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: {tag}\n".encode(),
    }
    files |= {f"bihrnet_edge/runtimes/demo/page/{name}": b"" for name in PAGE} | (extra or {})
    files = {name: data for name, data in files.items() if name not in without}
    if record is None:
        digests = {name: base64.urlsafe_b64encode(hashlib.sha256(data).digest()) for name, data in files.items()}
        lines = [f"{name},sha256={digests[name].decode().rstrip('=')},{len(files[name])}" for name in files]
        record = "\n".join([*lines, "bihrnet_edge-0.1.0.dist-info/RECORD,,"])
    path = folder / f"bihrnet_edge-0.1.0-{tag}.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for name, data in files.items():
            wheel.writestr(name, data)
        wheel.writestr("bihrnet_edge-0.1.0.dist-info/RECORD", record)
    return path


def run(path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(SCRIPT), str(path)], capture_output=True, text=True, check=False)


def test_a_good_wheel(tmp_path: Path) -> None:
    done = run(write_wheel(tmp_path, compile_library(tmp_path, SOURCE)))
    assert done.returncode == 0, done.stderr
    assert TAG in done.stdout


@pytest.mark.parametrize(
    ("source", "options", "sentence"),
    [
        ("int main_thing(void) { return 0; }\n" + SOURCE, (), "exports main_thing"),
        (SOURCE, ("-Wl,--no-as-needed", "-lgcc_s"), "needs libgcc_s.so.1"),
        (SOURCE, ("-Wl,-rpath,/opt",), "has a R"),
        (SOURCE.replace("0.1.0", "0.0.9"), (), "says that it is 0.0.9"),
    ],
)
def test_libraries_that_must_not_ship(tmp_path: Path, source: str, options: tuple[str, ...], sentence: str) -> None:
    done = run(write_wheel(tmp_path, compile_library(tmp_path, source, *options)))
    assert (done.returncode, done.stdout) == (1, "")
    assert sentence in done.stderr


def test_a_wheel_without_a_part_of_the_page(tmp_path: Path) -> None:
    script = "bihrnet_edge/runtimes/demo/page/demo.js"
    done = run(write_wheel(tmp_path, compile_library(tmp_path, SOURCE), without=(script,)))
    assert (done.returncode, done.stdout) == (1, "")
    assert f"it lacks {script}" in done.stderr


def test_a_library_with_its_symbols(tmp_path: Path) -> None:
    library = compile_library(tmp_path, SOURCE, strip=False)
    assert "not stripped" in run(write_wheel(tmp_path, library)).stderr


def test_a_library_for_another_machine(tmp_path: Path) -> None:
    other = "aarch64" if MACHINE == "x86_64" else "x86_64"
    path = write_wheel(tmp_path, compile_library(tmp_path, SOURCE), f"py3-none-manylinux_2_27_{other}")
    assert f"not for {other}" in run(path).stderr


def test_a_library_newer_than_its_tag(tmp_path: Path) -> None:
    source = SOURCE + "void puts(const char*); void bihrnet_lce_say(void) { puts(bihrnet_lce_version()); }\n"
    library = compile_library(tmp_path, source)
    assert run(write_wheel(tmp_path, library)).returncode == 0
    old = write_wheel(tmp_path, library, f"py3-none-manylinux_2_1_{MACHINE}")
    assert "puts of a glibc newer than 2.1" in run(old).stderr


def test_contents(tmp_path: Path) -> None:
    library = compile_library(tmp_path, SOURCE)
    for extra, sentence in (
        ({"tests/test_x.py": b""}, "it holds tests/test_x.py"),
        ({"bihrnet_edge/runtimes/native/src/kernel.cc": b""}, "kernel.cc"),
    ):
        assert sentence in run(write_wheel(tmp_path, library, extra=extra)).stderr
    assert "RECORD" in run(write_wheel(tmp_path, library, record="bihrnet_edge-0.1.0.dist-info/RECORD,,")).stderr


def test_a_tag_that_no_index_takes(tmp_path: Path) -> None:
    path = write_wheel(tmp_path, compile_library(tmp_path, SOURCE), f"py3-none-linux_{MACHINE}")
    assert f"its tag is 'py3-none-linux_{MACHINE}'" in run(path).stderr
