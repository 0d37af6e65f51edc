"""What tests of several folders call: the command line in this process, and scripts that are no package's."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from bihrnet_edge.cli import main


def run(*arguments: object) -> int:
    """The exit code."""
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def fails(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 2) -> str:
    """One sentence on stderr and the exit code."""
    capsys.readouterr()
    assert run(*arguments) == code
    error = capsys.readouterr().err
    lines = [line for line in error.splitlines() if line.startswith("bihrnet-edge: ")]
    assert len(lines) == 1, error
    assert "Traceback" not in error
    return lines[0]


def load_script(path: Path) -> ModuleType:
    """A Python file as a module."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for their module
    spec.loader.exec_module(module)
    return module
