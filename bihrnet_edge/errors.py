"""Errors that end a command with one sentence and a documented exit code."""

from __future__ import annotations

import importlib
from types import ModuleType


class UserError(Exception):
    """Bad input: the message says what is wrong, where, and what to do. The CLI exits with code 2."""

    exit_code = 2


class SourceError(UserError):
    """One of several inputs is bad; the others may be fine."""


class GateError(Exception):
    """Everything was measured, and something is worse than allowed. The CLI exits with code 3."""

    exit_code = 3


class AccuracyGateError(GateError):
    """An artifact lost more accuracy than allowed."""


class SpeedGateError(GateError):
    """An artifact became slower than allowed."""


def first_line(error: Exception) -> str:
    """The first line of a library's message; what follows is of use to the library's authors."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


def require_module(name: str, purpose: str, install: str) -> ModuleType:
    """Import an optional dependency, or a :class:`UserError` which says what for and how to install it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(f"{purpose} needs {name.partition('.')[0]}, which is not installed; {install}.") from error
