"""Which activations stay in float when int8 costs too much: ``mixed`` precision.

The activations are ordered by what rounding each alone does to the heatmaps. As many of the worst as it takes, and no
more, stay in float: so many that the heatmaps' error, of the others all together, falls to a share of what int8 makes.
Errors of single activations do not add up (a sign flips once), so that the share is measured and not summed.

The heatmaps themselves always stay. Rounded to bytes, the neighbours of a peak are often equal, and the quarter of a
pixel that a decoder moves towards the larger one is lost: points of accuracy that no squared error shows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bihrnet_edge.calibration.scales import Node
from bihrnet_edge.errors import UserError

#: Names of activations that are rounded to int8.
Rounded = frozenset[str]
#: Share of int8's error that ``mixed`` leaves unless asked for another.
DEFAULT_SHARE = 0.25


@dataclass(frozen=True)
class Sensitivity:
    """What a sweep found.

    Attributes:
        images: on how many it was made.
        int8: squared error of the heatmaps with every activation rounded, relative to their squares.
        mixed: the same with ``kept`` in float.
        alone: the same by the one activation that is rounded.
        kept: the activations that stay in float for ``mixed``, sorted.
    """

    images: int
    int8: float
    mixed: float
    alone: Mapping[str, float]
    kept: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-serialisable."""
        return asdict(self)


def sites(nodes: Sequence[Node]) -> list[list[Node]]:
    """Activations that are int8 together or not at all, in the order of their first ones.

    A PReLU goes with what it is computed from, a mean with its sums, and what only picks or shifts values with their
    sources: between these, a change of precision would cost conversions and save no rounding.
    """
    leader = {node.name: node.name for node in nodes}

    def find(name: str) -> str:
        while leader[name] != name:
            leader[name] = name = leader[leader[name]]
        return name

    by_name = {node.name: node for node in nodes}
    for node in nodes:
        for source in node.inputs:
            partial = node.operation == "mean" or (node.operation == "sum" and by_name[source].operation == "sum")
            if node.operation in ("prelu", "pick", "shift") or partial:
                leader[find(node.name)] = find(source)
    groups: dict[str, list[Node]] = {}
    for node in nodes:
        groups.setdefault(find(node.name), []).append(node)
    return list(groups.values())


def choose_float(
    nodes: Sequence[Node],
    alone: Mapping[str, float],
    error: Callable[[Rounded], float],
    share: float = DEFAULT_SHARE,
) -> tuple[Rounded, float, float]:
    """The activations that stay in float, the heatmaps among them.

    Args:
        nodes: all activations, each after its inputs; the last are the heatmaps.
        alone: the error by the one that is rounded.
        error: of the heatmaps, where these are rounded; decreasing, about, with fewer of them. Called some
            log2(len(nodes)) times.
        share: of int8's error that may remain, from 0 to 1.

    Returns:
        Their names, the error of int8 and the error that remains.

    Raises:
        UserError: the share is not from 0 to 1.
    """
    if not 0.0 <= share <= 1.0:
        raise UserError(f"the share of int8's error that mixed precision leaves is {share:g}; give one from 0 to 1.")
    everything = frozenset(node.name for node in nodes)
    # The heatmaps' site, then the worst of the others.
    order = sorted(sites(nodes), key=lambda site: (nodes[-1] not in site, -max(alone[node.name] for node in site)))
    int8, found = error(everything), {len(order): 0.0}

    def kept(count: int) -> Rounded:
        return frozenset(node.name for site in order[:count] for node in site)

    def measured(count: int) -> float:
        if count not in found:
            found[count] = error(everything - kept(count))
        return found[count]

    few, many = 0, len(order)  # of which the first is too few and the second enough
    while many - few > 1:
        middle = (few + many) // 2
        few, many = (few, middle) if measured(middle) <= share * int8 else (middle, many)
    return kept(many), int8, measured(many)
