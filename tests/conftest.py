"""Fixtures that every part of the tests shares."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real images: ``shared/data`` beside the repository, or what BIHRNET_DATA names."""
    folder = Path(os.environ.get("BIHRNET_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"there are no real images in {folder}; set BIHRNET_DATA")
    return folder
