"""Errors that end a command with one sentence and a documented exit code."""

from __future__ import annotations


class UserError(Exception):
    """Bad input: the message says what is wrong, where, and what to do. The CLI exits with code 2."""

    exit_code = 2


class AccuracyGateError(Exception):
    """An artifact lost more accuracy than allowed. The CLI exits with code 3."""

    exit_code = 3


def first_line(error: Exception) -> str:
    """The first line of a library's message; what follows is of use to the library's authors."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
