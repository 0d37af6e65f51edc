"""The observers' names and defaults, for a command line that starts without NumPy; what they do: :mod:`.observers`."""

from __future__ import annotations

from typing import Literal, get_args

ObserverName = Literal["minmax", "percentile", "entropy", "mse"]
OBSERVERS: tuple[ObserverName, ...] = get_args(ObserverName)
#: Share of the values, in per cent, that ``percentile`` leaves inside unless told otherwise.
PERCENTILE = 99.9
#: With this percentile; docs/decisions/0011 has what all values cost.
DEFAULT_OBSERVER: ObserverName = "percentile"
