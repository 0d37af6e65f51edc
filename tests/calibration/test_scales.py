"""Shared int8 scales: an addition of bytes is what they are for, so that is what is computed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bihrnet_edge.calibration.scales import Grid, Node, Operation, centered, grid_of, share_groups, share_scales
from bihrnet_edge.errors import UserError

Ranges = dict[str, tuple[float, float]]


@st.composite
def networks(draw: st.DrawFn) -> tuple[list[Node], Ranges]:
    """A trunk of additions, tiles, means, shifts and sums of itself over binary units, with a range for each."""
    nodes = [Node("stem", "convolution", ())]
    trunk = "stem"
    for index in range(draw(st.integers(1, 12))):
        kind: Operation = draw(st.sampled_from(("add", "pick", "mean", "shift", "sum")))
        if kind == "add":
            nodes += [
                Node(f"unit{index}", "unit", ()),
                Node(f"prelu{index}", "prelu", (f"unit{index}",)),
                Node(f"add{index}", "add", (trunk, f"prelu{index}")),
            ]
        elif kind == "pick":
            nodes.append(Node(f"pick{index}", "pick", (trunk, trunk)))
        elif kind == "shift":
            nodes.append(Node(f"shift{index}", "shift", (trunk,)))
        elif kind == "sum":
            nodes.append(Node(f"double{index}", "add", (trunk, trunk)))
        else:
            nodes += [Node(f"sum{index}", "sum", (trunk, trunk), 2), Node(f"mean{index}", "mean", (f"sum{index}",))]
        trunk = nodes[-1].name
    ends = st.floats(0.01, 50.0)
    return nodes, {node.name: (-draw(ends), draw(ends)) for node in nodes}


@given(networks())
@settings(max_examples=60, deadline=None)
def test_ranges_fit_and_additions_are_additions_of_bytes(network: tuple[list[Node], Ranges]) -> None:
    nodes, ranges = network
    grids = share_scales(nodes, ranges)
    around_zero = centered(nodes)
    for node in nodes:
        grid, (low, high) = grids[node.name], ranges[node.name]
        assert -128 <= grid.zero_point <= 127
        slack = 0.5001 * grid.scale  # the zero point is a whole number
        assert grid.low - slack <= low
        assert high <= grid.high + slack
        if node.operation == "add" and not around_zero.isdisjoint(node.inputs):
            one, other = (grids[name] for name in node.inputs)
            assert one.scale == other.scale == grid.scale
            assert other.zero_point == 0  # so that no byte is corrected
            assert one.zero_point == grid.zero_point
        if node.operation in ("pick", "shift"):
            assert {grids[name] for name in node.inputs} == {grid}
        if node.operation == "sum":
            assert grid.scale == pytest.approx(2 * grids[node.inputs[0]].scale)
        if node.name in around_zero:
            assert grid.zero_point == 0


@given(networks())
@settings(max_examples=30, deadline=None)
def test_groups_are_the_connected_components(network: tuple[list[Node], Ranges]) -> None:
    """By flooding from each node along its edges; those into a mean and into a sum of two shortcuts do not count."""
    nodes, _ = network
    edges = {node.name: set[str]() for node in nodes}
    for node in nodes:
        apart = node.operation == "mean" or (node.operation == "add" and node.name.startswith("double"))
        for source in () if apart else node.inputs:
            edges[node.name].add(source)
            edges[source].add(node.name)
    expected = set()
    for node in nodes:
        reached, waiting = {node.name}, [node.name]
        while waiting:
            new = edges[waiting.pop()] - reached
            reached |= new
            waiting += new
        expected.add(frozenset(reached))
    assert {frozenset(node.name for node in group) for group in share_groups(nodes)} == expected


@given(st.floats(0.0, 1e4), st.floats(1e-3, 1e4))
@settings(max_examples=50, deadline=None)
def test_zero_is_on_the_grid_and_both_ends_within_half_a_step(below: float, above: float) -> None:
    grid = grid_of(-below, above)
    codes = np.clip(np.rint(np.array([-below, 0.0, above]) / grid.scale) + grid.zero_point, -128, 127)
    values = (codes - grid.zero_point) * grid.scale
    assert values[1] == 0.0
    assert abs(values[[0, 2]] - [-below, above]).max() <= 0.5001 * grid.scale


def test_what_holds_beforehand() -> None:
    assert grid_of(-2.0, 127 / 64) == Grid(1 / 64, 0)  # (pixel - 128) / 64 is a byte


def test_ranges_that_do_not_fit_the_network() -> None:
    nodes = [Node("stem", "convolution", ()), Node("add_1", "pick", ("stem", "stem"))]
    with pytest.raises(UserError, match=r"lack 1 activations of this network, the first is 'add_1'.*calibrate again"):
        share_scales(nodes, {"stem": (0.0, 1.0)})
    with pytest.raises(UserError, match="'stem' is always zero on the calibration images"):
        share_scales(nodes, {"stem": (0.0, 0.0), "add_1": (0.0, 0.0)})
