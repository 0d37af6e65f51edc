"""The package that runs here as a wheel for another machine of the same kind."""

from __future__ import annotations

import base64
import hashlib
import platform
import zipfile
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import bihrnet_edge
from bihrnet_edge.errors import UserError

_BUILD = "build one with packaging/build_wheels.sh and give it with --wheel"
_PARTS = ("METADATA", "WHEEL", "entry_points.txt")


def pack_installed(folder: Path) -> Path:
    """A wheel of the installed package in ``folder``.

    Raises:
        UserError: it is installed as a clone (``pip install -e``), whose parts lie in several folders.
    """
    package = Path(bihrnet_edge.__file__).parent
    try:
        installed = distribution("bihrnet-edge")
    except PackageNotFoundError as error:
        raise UserError(f"bihrnet-edge runs here without being installed; {_BUILD}.") from error
    if not (package / "runtimes" / "native" / "libbihrnet_lce.so").is_file():
        raise UserError(f"bihrnet-edge is installed here from a clone, which is no wheel; {_BUILD}.")
    files = {
        f"bihrnet_edge/{path.relative_to(package).as_posix()}": path.read_bytes()
        for path in sorted(package.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }
    texts = {name: installed.read_text(name) for name in _PARTS}
    tag = next(line.partition(": ")[2] for line in (texts["WHEEL"] or "").splitlines() if line.startswith("Tag: "))
    name = f"bihrnet_edge-{installed.version}"
    files |= {f"{name}.dist-info/{part}": text.encode() for part, text in texts.items() if text is not None}
    record = "".join(f"{path},sha256={_digest(data)},{len(data)}\n" for path, data in files.items())
    files[f"{name}.dist-info/RECORD"] = f"{record}{name}.dist-info/RECORD,,\n".encode()
    wheel = folder / f"{name}-{tag}.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, data in files.items():
            archive.writestr(path, data)
    return wheel


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def choose_wheels(given: list[Path], folder: Path, system: str, machine: str) -> list[Path]:
    """The package's wheel for a machine, and then whatever else was given.

    Args:
        given: wheels from the user; that of bihrnet-edge among them unless the installed package will do.
        folder: for the wheel of the installed package.
        system, machine: of the other side, as ``uname`` has them.

    Raises:
        UserError: a file is none, or for other machines, or none fits.
    """
    for path in given:
        if path.suffix != ".whl" or not zipfile.is_zipfile(path):
            raise UserError(f"--wheel {path} is no wheel; {_BUILD}.")
    ours = [path for path in given if path.name.startswith("bihrnet_edge-")]
    fitting = [path for path in ours if path.stem.endswith(f"_{machine}") or path.stem.endswith("-any")]
    if ours and not fitting:
        raise UserError(f"{ours[0].name} is not for {machine}, which the machine there is; {_BUILD}.")
    if not ours:
        if (system, machine) != (platform.system(), platform.machine()):
            raise UserError(f"the machine there is {system} on {machine}, and this one is not; {_BUILD}.")
        fitting = [pack_installed(folder)]
    return [fitting[0], *(path for path in given if path not in ours)]
