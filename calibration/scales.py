"""Which int8 scale every activation gets, from calibrated ranges and from what is computed from what.

An int8 tensor holds ``(q - zero_point) * scale``. Adding or joining tensors of different scales costs a
multiplication and a rounding for every value; with one scale, an addition of bytes is exact but for saturation. So
tensors that additions, PReLUs, pools and the like connect share a scale (docs/decisions/0011):

- What flows along the shortcuts is mostly positive: it also shares a zero point, that of its common range.
- What a binary convolution adds to that lies around zero: its zero point is 0, so that the sum of both is the plain
  saturating sum of bytes.
- An unfinished mean of k tensors has k times the scale, exactly: scales have so few digits that float32 holds their
  multiples. Its product with 1/k, a multiplication in any case, is where the scale may change; where it does not, that
  changes no byte.
- The sum of two shortcuts, which has up to twice the range of either, is the other place where it may change.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from bihrnet_edge.errors import UserError

#: What computes a tensor. ``input``: the images; ``convolution``: a real-valued convolution; ``unit``: a binary one;
#: ``prelu``: a PReLU; ``add``: a sum; ``pick``: values of its inputs, or averages of them; ``sum``: an unfinished
#: ``mean``; ``shift``: its input less a constant a channel.
Operation = Literal["input", "convolution", "unit", "prelu", "add", "pick", "sum", "mean", "shift"]

LOWEST, HIGHEST = -128, 127
#: Binary digits of a shared scale: with 8 of a byte and up to 4 of a mean's terms float32 holds every product.
_DIGITS = 12


@dataclass(frozen=True)
class Node:
    """An activation.

    Attributes:
        name: of the layer that computes it.
        operation: what that does.
        inputs: the activations that it is computed from, as far as they are int8 tensors themselves.
        terms: of how many tensors a ``sum`` is the sum; 1 for all else.
        channels: from and to (exclusive) which ones of its input's it has; None: all, one input's after the other's.
    """

    name: str
    operation: Operation
    inputs: tuple[str, ...]
    terms: int = 1
    channels: tuple[int, int] | None = None


@dataclass(frozen=True)
class Grid:
    """The values ``(q - zero_point) * scale``, q from -128 to 127, of an int8 tensor."""

    scale: float
    zero_point: int = 0

    @property
    def low(self) -> float:
        """The least value."""
        return (LOWEST - self.zero_point) * self.scale

    @property
    def high(self) -> float:
        """The greatest value."""
        return (HIGHEST - self.zero_point) * self.scale


def grid_of(low: float, high: float, least: float = 0.0) -> Grid:
    """The finest grid of at least the scale ``least`` that holds ``low`` to ``high``; zero, which is between, is on it.

    Where the two are both zero the scale is ``least``.
    """
    scale = max((high - low) / (HIGHEST - LOWEST), least)
    zero_point = round(LOWEST - low / scale) if scale > 0.0 else 0
    return Grid(scale, min(max(zero_point, LOWEST), HIGHEST))


def _short(grid: Grid) -> Grid:
    """The grid with its scale rounded up to a few binary digits."""
    fraction, exponent = math.frexp(grid.scale)
    return Grid(math.ldexp(math.ceil(math.ldexp(fraction, _DIGITS)), exponent - _DIGITS), grid.zero_point)


def share_groups(nodes: Sequence[Node]) -> list[list[Node]]:
    """The activations whose scales depend on each other, in the order of their first ones."""
    leader: dict[str, str] = {node.name: node.name for node in nodes}
    around_zero = centered(nodes)

    def find(name: str) -> str:
        while leader[name] != name:
            leader[name] = name = leader[leader[name]]
        return name

    for node in nodes:
        # Its product with 1/k can change the scale at no cost, and a sum of shortcuts where it has to grow.
        apart = node.operation == "mean" or (node.operation == "add" and around_zero.isdisjoint(node.inputs))
        for source in () if apart else node.inputs:
            leader[find(source)] = find(node.name)
    groups: dict[str, list[Node]] = {}
    for node in nodes:
        groups.setdefault(find(node.name), []).append(node)
    return list(groups.values())


def centered(nodes: Iterable[Node]) -> set[str]:
    """Names of the activations around zero: those of binary convolutions until they are added to something."""
    found: set[str] = set()
    for node in nodes:
        inherits = node.operation in ("prelu", "pick") and bool(node.inputs)
        if node.operation == "unit" or (inherits and found.issuperset(node.inputs)):
            found.add(node.name)
    return found


def share_scales(nodes: Sequence[Node], ranges: Mapping[str, tuple[float, float]]) -> dict[str, Grid]:
    """The grid of every activation.

    Args:
        nodes: all activations, each after its inputs.
        ranges: ``(low, high)`` of each, holding zero.

    Raises:
        UserError: an activation has no range, or all of a group's activations have always been zero.
    """
    if missing := [node.name for node in nodes if node.name not in ranges]:
        raise UserError(
            f"the ranges lack {len(missing)} activations of this network, the first is {missing[0]!r}; they belong "
            "to another one, calibrate again."
        )
    around_zero = centered(nodes)
    grids: dict[str, Grid] = {}
    for group in share_groups(nodes):
        spans = [(node.name in around_zero, *(end / node.terms for end in ranges[node.name])) for node in group]
        low = min((low for inside, low, _ in spans if not inside), default=0.0)
        high = max((high for inside, _, high in spans if not inside), default=0.0)
        reach = max((max(low / LOWEST, high / HIGHEST) for inside, low, high in spans if inside), default=0.0)
        grid = _short(grid_of(low, high, reach))
        if not grid.scale > 0.0:
            raise UserError(
                f"the activation {group[0].name!r} is always zero on the calibration images, so that it has no int8 "
                "scale; calibrate on other images, or train again."
            )
        for node in group:
            zero_point = 0 if node.name in around_zero else grid.zero_point
            grids[node.name] = Grid(grid.scale * node.terms, zero_point)
    return grids
