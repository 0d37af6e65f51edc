"""Where the channels of the shortcuts lie, and one constant a channel that moves them all to about zero.

An int8 tensor has one scale and one zero point for all channels. But along the shortcuts each channel lies around a
mean of its own, which grows from block to block, while its spread does not: in a deep network most of the 256 levels
would tell channels apart, and few their values (docs/decisions/0011).

What flows along the shortcuts is the stem's output and sums of what binary units add; all that happens to it is linear
and keeps channels whole: sums, means, tiles, slices, pools and upsampling. So a constant subtracted from each channel
of the stem's output arrives everywhere, known beforehand. Thresholds and the head's bias move with it, and the network
computes what it did.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from bihrnet_edge.calibration.scales import Node

Float64 = NDArray[np.float64]

#: Directions in which the means say less than this about the offset, relative to the best one, stay zero.
_LEAST = 1e-9


def propagate(nodes: Sequence[Node], offset: Float64) -> dict[str, Float64]:
    """What an offset of the stem's output makes of the channels of every activation that it reaches.

    Args:
        nodes: all activations, each after its inputs.
        offset: ``(C, ...)``, of the activation ``shift``; the result is linear in it.

    Returns:
        ``(channels, ...)`` by name; an activation without an entry has no offset.
    """
    found: dict[str, Float64] = {}
    terms = {node.name: node.terms for node in nodes}
    for node in nodes:
        sources = [found[name] for name in node.inputs if name in found]
        if node.operation == "shift":
            found[node.name] = offset
        elif not sources:
            continue
        elif node.operation in ("add", "sum"):
            found[node.name] = np.sum(sources, axis=0)
        elif node.operation == "mean":
            found[node.name] = sources[0] / terms[node.inputs[0]]
        else:
            joined = np.concatenate(sources)
            found[node.name] = joined if node.channels is None else joined[slice(*node.channels)]
    return found


def best_offset(nodes: Sequence[Node], means: Mapping[str, Float64]) -> Float64:
    """The offset that leaves the channels of all activations it reaches as close to each other, and to zero, as it can.

    By least squares over the channels' means, where each activation counts alike: first for the differences between
    the channels of one activation, then for what all have in common, which a zero point could move as well.

    Args:
        nodes: all activations, each after its inputs.
        means: of the channels of each that an offset reaches, ``(channels,)``.

    Returns:
        ``(C,)``, of the activation ``shift``.
    """
    count = len(means["shift"])
    gains = propagate(nodes, np.eye(count))
    matrix, target, common = np.zeros((count, count)), np.zeros(count), np.zeros(count)
    rest = 0.0
    for name, raw in gains.items():
        total = raw.sum(axis=1).mean()  # of every channel, as what happens to one happens to all
        gain, mean = raw / total, means[name] / total
        apart = (gain - gain.mean(axis=0)) / len(mean)
        matrix += apart.T @ gain
        target += apart.T @ mean
        common += gain.mean(axis=0)
        rest += mean.mean()
    offset: Float64 = np.linalg.pinv(matrix, rcond=_LEAST, hermitian=True) @ target
    return offset + (rest - common @ offset) / len(gains)
