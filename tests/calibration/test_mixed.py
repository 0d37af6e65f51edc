"""What stays in float: no more than it takes, the worst first, and no site torn apart."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bihrnet_edge.calibration.mixed import choose_float, sites
from bihrnet_edge.calibration.scales import Node, Operation
from bihrnet_edge.errors import UserError


@st.composite
def networks(draw: st.DrawFn) -> list[Node]:
    """Any activation computed from earlier ones; a mean of a sum or of two sums in a row."""
    nodes = [Node("stem", "convolution", ())]
    for index in range(draw(st.integers(1, 15))):
        name, source = f"t{index}", draw(st.sampled_from(nodes)).name
        kind: Operation = draw(st.sampled_from(("unit", "prelu", "add", "pick", "mean", "shift")))
        if kind == "mean":
            parts = draw(st.integers(1, 2))
            for part in range(parts):
                nodes.append(Node(f"{name}.{part}", "sum", (nodes[-1].name if part else source, source), part + 2))
            nodes.append(Node(name, kind, (nodes[-1].name,)))
        else:
            nodes.append(Node(name, kind, () if kind == "unit" else (source,)))
    return nodes


@given(networks())
@settings(max_examples=80, deadline=None)
def test_sites_hold_what_conversions_would_tear_apart(nodes: list[Node]) -> None:
    groups = sites(nodes)
    assert sorted(node.name for site in groups for node in site) == sorted(node.name for node in nodes)
    site_of = {node.name: index for index, site in enumerate(groups) for node in site}
    kinds = {node.name: node.operation for node in nodes}
    for node in nodes:
        for source in node.inputs:
            partial = (node.operation, kinds[source]) == ("sum", "sum")
            same = partial or node.operation in ("prelu", "pick", "mean", "shift")
            assert not same or site_of[node.name] == site_of[source]


@given(networks(), st.data(), st.sampled_from((0.0, 0.1, 0.5, 0.9, 1.0)))
@settings(max_examples=80, deadline=None)
def test_fewest_of_the_worst_sites(nodes: list[Node], data: st.DataObject, share: float) -> None:
    """Where errors add up, the choice is that of a search through all numbers of sites, the heatmaps' among them."""
    alone = {node.name: data.draw(st.sampled_from((0.0, 0.5, 1.0, 2.0, 8.0))) for node in nodes}

    def error(rounded: frozenset[str]) -> float:
        return sum(
            max(alone[node.name] for node in site if node.name in rounded) for site in groups if site[0].name in rounded
        )

    groups = sites(nodes)
    kept, int8, left = choose_float(nodes, alone, error, share)
    everything = frozenset(alone)
    assert int8 == error(everything)
    assert left == error(everything - kept)
    assert left <= share * int8
    heatmaps = next(site for site in groups if nodes[-1] in site)
    others = [site for site in groups if site is not heatmaps]
    worst = [heatmaps, *sorted(others, key=lambda site: -max(alone[node.name] for node in site))]
    enough = next(
        count
        for count in range(1, len(worst) + 1)
        if error(everything - {node.name for site in worst[:count] for node in site}) <= share * int8
    )
    assert kept == {node.name for site in worst[:enough] for node in site}


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan")])
def test_a_share_is_a_share(share: float) -> None:
    with pytest.raises(UserError, match="give one from 0 to 1"):
        choose_float([Node("stem", "convolution", ())], {"stem": 1.0}, lambda rounded: float(len(rounded)), share)
