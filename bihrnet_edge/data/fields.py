"""Reading numbers out of a JSON file, where any field can be anything."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bihrnet_edge.errors import UserError

_LARGEST = float(np.finfo(np.float32).max)
_INT64 = 1 << 63


def read_json(path: Path, what: str) -> Any:
    """The JSON document at ``path``; a :class:`UserError` which calls the file ``what`` where it cannot be read."""
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise UserError(f"{what} {path} cannot be read ({error.strerror}); check the path.") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{what} {path} is not JSON ({error}); it may be truncated.") from error


def require(record: Any, key: str, where: str) -> Any:
    """``record[key]``, or a :class:`UserError` which says that ``where`` lacks it."""
    if not isinstance(record, Mapping) or key not in record:
        raise UserError(f"{where} has no {key!r}; the file is incomplete, write it again.")
    return record[key]


def numbers(value: Any, count: int, what: str, where: str) -> NDArray[np.float64]:
    """``value`` as exactly ``count`` finite numbers (nested lists are flattened), or a :class:`UserError`.

    Finite means in float32, in which a :class:`~bihrnet_edge.data.person.Person` keeps its joints.
    """
    try:
        array = np.asarray(value, dtype=np.float64).reshape(-1)
    except OverflowError as error:
        raise UserError(f"{where}: {what} holds a number that is too large; correct the file.") from error
    except (TypeError, ValueError) as error:
        raise UserError(f"{where}: {what} holds something that is not a number; correct the file.") from error
    if array.size != count:
        raise UserError(f"{where}: {what} has {array.size} numbers, not {count}; correct the file.")
    if not np.abs(array).max(initial=0.0) <= _LARGEST:  # false for NaN, too
        raise UserError(f"{where}: {what} holds NaN or infinity; correct the file.")
    return array


def numbers_or_error(value: Any, count: int, what: str, where: str) -> NDArray[np.float64] | UserError:
    """:func:`numbers`, with the error returned for a reader that counts what is malformed."""
    try:
        return numbers(value, count, what, where)
    except UserError as error:
        return error


def number(value: Any, what: str, where: str) -> float:
    """``value`` as one finite number, or a :class:`UserError`."""
    if type(value) in (int, float) and abs(value) <= _LARGEST:  # what follows is for what is odd
        return float(value)
    return float(numbers(value, 1, what, where)[0])


def integer(value: Any, what: str, where: str) -> int:
    """``value`` as a whole number of 64 bits, or a :class:`UserError`."""
    if type(value) is int and -_INT64 <= value < _INT64:
        return value
    number_ = number(value, what, where)
    if not -_INT64 <= number_ < _INT64:
        raise UserError(f"{where}: {what} is {value!r}, which is too large; correct the file.")
    if number_ != int(number_):
        raise UserError(f"{where}: {what} is {value!r}, not a whole number; correct the file.")
    return int(number_)


def records(value: Any, what: str, where: str) -> list[Any]:
    """``value`` as a list, or a :class:`UserError`."""
    if not isinstance(value, list):
        raise UserError(f"{where}: {what} is not a list; correct the file.")
    return value
