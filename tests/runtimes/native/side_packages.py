"""Packages beside the installed ones, in a folder for PYTHONPATH: what cannot be installed together with them.

Only a package's own files are taken; what it needs is there already.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


def install(folder: Path, *requirements: str) -> Path:
    """``folder`` with the packages; skips the test where there is no package index, except in CI."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), *requirements]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode and os.environ.get("CI") != "true":
        pytest.skip(f"{', '.join(requirements)} cannot be installed: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    return folder


def run(folder: Path, script: Path, *arguments: object) -> str:
    """What a script prints that finds the folder's packages first."""
    path = os.pathsep.join([str(folder), str(script.parent)])
    done = subprocess.run(
        [sys.executable, str(script), *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout
