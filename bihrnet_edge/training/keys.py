"""Reading a mapping of a recipe into a dataclass; every error names the key."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, TypeVar

from bihrnet_edge.errors import UserError

T = TypeVar("T")


def is_int(value: object) -> bool:
    """Whether this is an integer; YAML's ``true`` is none."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: object) -> bool:
    """Whether this is a finite number."""
    return is_int(value) or (isinstance(value, float) and math.isfinite(value))


def build(cls: type[T], values: Any, where: str) -> T:
    """The dataclass ``cls`` from a mapping; kinds of values follow the fields' defaults and annotations.

    Raises:
        UserError: a key is unknown or missing, or its value is of the wrong kind; ``where`` begins the sentence.
    """
    if not isinstance(values, dict):
        raise UserError(f"{where} is not a mapping of keys to values.")
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for key in values:
        if key not in fields:
            raise UserError(f"{where}: unknown key {key!r}; known keys are {', '.join(fields)}.")
    for name, spec in fields.items():
        required = spec.default is dataclasses.MISSING and spec.default_factory is dataclasses.MISSING
        if required and name not in values:
            raise UserError(f"{where}: key {name!r} is missing.")
        if name not in values:
            continue
        value = values[name]
        if isinstance(spec.default, bool):
            if not isinstance(value, bool):
                raise UserError(f"{where}: {name} is {value!r}; give true or false.")
        elif isinstance(spec.default, (int, float)) and not is_number(value):
            raise UserError(f"{where}: {name} is {value!r}; give a number.")
        optional = value is None and spec.default is None
        if str(spec.type) in ("str", "str | None") and not isinstance(value, str) and not optional:
            raise UserError(f"{where}: {name} is {value!r}; give a string.")
    return cls(**values)


def check_choice(value: object, choices: tuple[str, ...], where: str, key: str) -> None:
    """A :class:`UserError` unless ``value`` is one of the strings."""
    if not isinstance(value, str) or value not in choices:
        raise UserError(f"{where}: {key} is {value!r}; choose one of {', '.join(choices)}.")
