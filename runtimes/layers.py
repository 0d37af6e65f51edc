"""The layers of an artifact, and what each computes and stores."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from bihrnet_edge.runtimes.work import Work

FLOAT, INT8, BINARY = "float", "int8", "binary"
#: In the order in which people read them.
KINDS = (FLOAT, INT8, BINARY)


@dataclass(frozen=True)
class Layer:
    """One operator of a graph, or one module of a checkpoint.

    Attributes:
        name: of its first result in the file; the module's for a checkpoint.
        op: the operator, e.g. ``CONV_2D``.
        kind: ``float``, ``int8`` or ``binary``: 1-bit weights, or 1-bit results.
        shape: of the first result as ``(N, H, W, C)``, or as it is where it is no picture; None where it is not known.
        kernel: ``(height, width)`` of a convolution.
        work: multiply-accumulates, and the weights that no earlier layer has.
        constant_bytes: of the constants that no earlier layer has; None where they are not stored layer by layer.
        reads: places of the layers whose results it takes, all before it; None where they are not known.
    """

    name: str
    op: str
    kind: str
    shape: tuple[int, ...] | None
    kernel: tuple[int, int] | None
    work: Work
    constant_bytes: int | None = None
    reads: tuple[int, ...] | None = None

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one image."""
        return self.work.binary_macs + self.work.float_macs

    @property
    def parameters(self) -> int:
        """Weights and other trained values."""
        return self.work.binary_parameters + self.work.float_parameters


def total(layers: Iterable[Layer]) -> Work:
    """What they compute and store together."""
    return sum((layer.work for layer in layers), Work(0, 0, 0, 0))


def macs_by_kind(layers: Iterable[Layer]) -> dict[str, int]:
    """Multiply-accumulates of each of :data:`KINDS`."""
    found = dict.fromkeys(KINDS, 0)
    for layer in layers:
        found[layer.kind] += layer.macs
    return found


def bytes_by_kind(layers: Iterable[Layer]) -> dict[str, int]:
    """Bytes of constants of each of :data:`KINDS`."""
    found = dict.fromkeys(KINDS, 0)
    for layer in layers:
        found[layer.kind] += layer.constant_bytes or 0
    return found
