"""Checkpoints that ship with the package, by name."""

from __future__ import annotations

from pathlib import Path

_FOLDER = Path(__file__).parent / "checkpoints"


def bundled_names() -> list[str]:
    """Names that every command takes in place of a path."""
    return sorted(path.stem for path in _FOLDER.glob("*.pt"))


def bundled_path(name: str) -> Path | None:
    """The file of a bundled checkpoint, or None where ``name`` is not the name of one."""
    path = _FOLDER / f"{name}.pt"
    return path if name in bundled_names() else None
