"""Tests of the native delegate in stock TFLite runtimes; without the library there is nothing to test."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from bihrnet_edge.runtimes import delegate

sys.path.append(str(Path(__file__).parent))  # for lce_models and its like: pytest imports tests without the path


@pytest.fixture(autouse=True, scope="session")
def library() -> Path:
    """The delegate's library. CI has one: there it is no excuse."""
    path = delegate.find_library()
    if path is None and os.environ.get("CI") != "true":
        pytest.skip(f"this installation has no native delegate; set {delegate.LIBRARY_VARIABLE}")
    assert path is not None
    return path
