"""The native delegate: Larq Compute Engine's operators in any stock TFLite runtime (``runtimes/native``)."""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import bihrnet_edge.runtimes
from bihrnet_edge.errors import UserError, first_line

#: Names the library to load, in place of the one that was installed.
LIBRARY_VARIABLE = "BIHRNET_LCE_LIBRARY"
#: Names the kernels that the library takes, in place of the fastest; it reads this itself.
KERNEL_VARIABLE = "BIHRNET_LCE_KERNEL"
#: What it takes at most for one inference.
MAX_THREADS = 64
_LIBRARY = Path("native", "libbihrnet_lce.so")
_REINSTALL = "install bihrnet-edge again for this machine"


@dataclass(frozen=True)
class DelegateInfo:
    """The library that :func:`load` loads.

    Attributes:
        path: where it lies.
        version: its own.
        kernel: the set of kernels that it takes unless :func:`load` is given one: what ``BIHRNET_LCE_KERNEL`` names, or
            the fastest here, e.g. ``avx2``.
    """

    path: Path
    version: str
    kernel: str


def find_library() -> Path | None:
    """The delegate's library, or None where this installation has none.

    Raises:
        UserError: ``BIHRNET_LCE_LIBRARY`` names a file that is not there.
    """
    if named := os.environ.get(LIBRARY_VARIABLE):
        if not Path(named).is_file():
            raise UserError(f"{LIBRARY_VARIABLE} is {named}, and there is no such file; correct or unset it.")
        return Path(named).resolve()
    for folder in bihrnet_edge.runtimes.__path__:
        if (path := Path(folder) / _LIBRARY).is_file():
            return path
    # An editable installation has the sources in the clone, and what was built beside its metadata.
    try:
        path = Path(str(distribution("bihrnet-edge").locate_file(Path("bihrnet_edge", "runtimes") / _LIBRARY)))
    except PackageNotFoundError:
        return None
    return path if path.is_file() else None


def delegate_info() -> DelegateInfo:
    """What :func:`load` will load.

    Raises:
        UserError: there is no library, or it is not one for this machine.
    """
    path = find_library()
    if path is None:
        raise UserError(
            f"this installation has no libbihrnet_lce.so; {_REINSTALL}, or name the file in {LIBRARY_VARIABLE}."
        )
    try:
        function = ctypes.CDLL(str(path)).bihrnet_lce_version
    except (OSError, AttributeError) as error:
        raise UserError(f"the delegate {path} cannot be loaded ({first_line(error)}); {_REINSTALL}.") from error
    function.restype = ctypes.c_char_p
    version, _, kernel = function().decode().partition(" ")
    return DelegateInfo(path, version, os.environ.get(KERNEL_VARIABLE) or kernel)


def load(
    threads: int = 1, *, kernel: str | None = None, profile: Path | None = None, verbose: bool = False
) -> tuple[Any, str]:
    """A delegate for ``ai_edge_litert.interpreter.Interpreter(experimental_delegates=[...])``.

    It must outlive the interpreter.

    Args:
        threads: of one inference, at most :data:`MAX_THREADS`.
        kernel: ``scalar``, ``avx2`` or ``neon``; ``BIHRNET_LCE_KERNEL`` or else the fastest unless given.
        profile: a file for the time of every fused step, written when the interpreter goes.
        verbose: print a line on standard error for every part of a graph that is compiled.

    Returns:
        The delegate, and the set of kernels that it takes.

    Raises:
        UserError: there is no library, it is not one for this machine, or it refuses an option.
    """
    info = delegate_info()  # before LiteRT opens it, whose wrapper stumbles over a library that it cannot open
    from ai_edge_litert.interpreter import load_delegate

    options = {"threads": str(threads)}
    if kernel:
        options["kernel"] = kernel
    if profile is not None:
        options["profile"] = str(profile)
    if verbose:
        options["verbose"] = "1"
    try:
        delegate = load_delegate(str(info.path), options)
    except ValueError as error:  # its first line says only which library
        reason = str(error).strip().splitlines()[-1].rstrip(".")
        raise UserError(f"the delegate {info.path} cannot be used: {reason}.") from error
    return delegate, kernel or info.kernel
