"""Offsets along the shortcuts, against the networks themselves, run on random numbers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bihrnet_edge.calibration.offsets import Float64, best_offset, propagate
from bihrnet_edge.calibration.scales import Node, Operation

CHANNELS = 4


@st.composite
def networks(draw: st.DrawFn) -> list[Node]:
    """Shortcuts, all of 4 or 8 channels, from one shift on: tiles, halves, additions of units, sums and means."""
    nodes = [Node("stem", "convolution", ()), Node("shift", "shift", ("stem",))]
    widths = {"shift": CHANNELS}
    for index in range(draw(st.integers(1, 10))):
        name = f"t{index}"
        source = draw(st.sampled_from(sorted(widths)))
        alike = draw(st.sampled_from([other for other in sorted(widths) if widths[other] == widths[source]]))
        widths[name] = widths[source]
        kind: Operation = draw(st.sampled_from(("add", "pick", "mean", "sum")))
        if kind == "add":
            nodes += [Node(f"{name}.bn", "unit", ()), Node(f"{name}.act", "prelu", (f"{name}.bn",))]
            nodes.append(Node(name, "add", (source, f"{name}.act")))
        elif kind == "sum":
            nodes.append(Node(name, "add", (source, alike)))
        elif kind == "mean":
            nodes += [Node(f"{name}.sum", "sum", (source, alike), 2), Node(name, "mean", (f"{name}.sum",))]
            widths[f"{name}.sum"] = widths[source]
        elif widths[source] == CHANNELS:
            nodes.append(Node(name, "pick", (source, source)))
            widths[name] *= 2
        else:
            first = draw(st.integers(0, CHANNELS))
            nodes.append(Node(name, "pick", (source,), channels=(first, first + CHANNELS)))
            widths[name] = CHANNELS
    return nodes


def values_of(nodes: list[Node], offset: Float64, seed: int) -> Mapping[str, Float64]:
    """Every activation ``(positions, channels)`` where the stem's output is shifted; units by the seed."""
    random = np.random.default_rng(seed)
    stem = random.normal(3.0, 1.0, (5, CHANNELS))
    found: dict[str, Float64] = {}
    terms = {node.name: node.terms for node in nodes}
    units = {width: random.normal(0.5, 1.0, (len(nodes), 5, width)) for width in (CHANNELS, 2 * CHANNELS)}
    for index, node in enumerate(nodes):
        sources = [found[name] for name in node.inputs if name in found]
        if node.operation == "convolution":
            value = stem
        elif node.operation == "shift":
            value = stem - offset
        elif node.operation in ("unit", "prelu"):
            continue
        elif node.operation == "mean":
            value = sources[0] / terms[node.inputs[0]]
        elif node.operation in ("add", "sum"):
            value = sum(sources) + (units[sources[0].shape[1]][index] if len(sources) == 1 else 0.0)
        else:
            value = np.concatenate(sources, axis=1)
            if node.channels is not None:
                value = value[:, node.channels[0] : node.channels[1]]
        found[node.name] = value
    return found


@given(networks(), st.integers(0, 1000))
@settings(max_examples=100, deadline=None)
def test_an_offset_arrives_as_it_is_propagated(nodes: list[Node], seed: int) -> None:
    offset = np.random.default_rng(seed + 1).normal(0.0, 2.0, CHANNELS)
    before, after = values_of(nodes, np.zeros(CHANNELS), seed), values_of(nodes, offset, seed)
    moved = propagate(nodes, offset)
    assert set(moved) == set(before) - {"stem"}
    for name, expected in moved.items():
        np.testing.assert_allclose(before[name] - after[name], np.broadcast_to(expected, before[name].shape), atol=1e-9)


@given(networks(), st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_the_best_offset_is_that_of_least_squares(nodes: list[Node], seed: int) -> None:
    """Against a solver that is given every difference between two channels as a row."""
    means = {name: value.mean(axis=0) for name, value in values_of(nodes, np.zeros(CHANNELS), seed).items()}
    offset = best_offset(nodes, means)

    rows, right, levels = [], [], []
    for name, gain in propagate(nodes, np.eye(CHANNELS)).items():
        total = gain.sum(axis=1).mean()
        width = len(gain)
        for a in range(width):
            for b in range(a):  # the sum of squared differences is width times that around the mean
                rows.append((gain[a] - gain[b]) / total / width)
                right.append((means[name][a] - means[name][b]) / total / width)
        levels.append((means[name] / total).mean() - (gain / total).mean(axis=0) @ offset)
    residual = np.array(rows) @ offset - np.array(right)
    least, *_ = np.linalg.lstsq(np.array(rows), np.array(right), rcond=None)
    np.testing.assert_allclose(residual, np.array(rows) @ least - np.array(right), atol=1e-7)
    assert np.mean(levels) == pytest.approx(0.0, abs=1e-9)


@given(networks(), st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_what_was_shifted_is_shifted_back(nodes: list[Node], seed: int) -> None:
    """A network whose stem has another offset gets that much another one, and then the same activations."""
    other = np.random.default_rng(seed + 2).normal(0.0, 5.0, CHANNELS)
    best = []
    for shift in (np.zeros(CHANNELS), -other):
        means = {name: value.mean(axis=0) for name, value in values_of(nodes, shift, seed).items()}
        best.append(best_offset(nodes, means))
    np.testing.assert_allclose(best[1] - best[0], other, atol=1e-6)
