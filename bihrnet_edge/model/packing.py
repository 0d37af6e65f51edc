"""One bit a binary weight: a network's state as two flat tensors.

``bits`` holds, kernel by kernel and each from a new byte on, 1 where the sign is negative; ``values`` holds
the kernels' scales (``mean|w|`` per output channel) and every other tensor, float32. Order and shapes are
those of the architecture's ``state_dict``, so no names are stored.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from bihrnet_edge.errors import UserError
from bihrnet_edge.model.binary import BinaryConv2d
from bihrnet_edge.model.config import ModelConfig
from bihrnet_edge.model.hrnet import BiHRNet

BITS, VALUES = "bits", "values"
#: BatchNorm's step counter: bookkeeping of the training, no weight of the network.
COUNTER = "num_batches_tracked"


def layout(config: ModelConfig) -> tuple[dict[str, torch.Size], frozenset[str]]:
    """Shapes of all weights by name, in order, and the names of the binary kernels."""
    with torch.device("meta"):
        model = BiHRNet(config)
    shapes = {name: t.shape for name, t in model.state_dict().items() if not name.endswith(COUNTER)}
    binary = frozenset(f"{name}.weight" for name, m in model.named_modules() if isinstance(m, BinaryConv2d))
    return shapes, binary


def pack(state: Mapping[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    """The two flat tensors of a complete state."""
    shapes, binary = layout(config)
    bits: list[np.ndarray[tuple[int], np.dtype[np.uint8]]] = [np.empty(0, np.uint8)]
    values: list[Tensor] = []
    for name in shapes:
        tensor = state[name].detach().cpu()
        if name in binary:
            bits.append(np.packbits((tensor.numpy() < 0).reshape(-1)))
            # In double precision the mean of equal magnitudes is exact, so packing again changes nothing.
            values.append(tensor.double().abs().mean(dim=(1, 2, 3)).float())
        else:
            values.append(tensor.float().reshape(-1))
    return {BITS: torch.from_numpy(np.concatenate(bits)), VALUES: torch.cat(values)}


def unpack(packed: Mapping[str, Tensor], config: ModelConfig, source: str) -> dict[str, Tensor]:
    """Inverse of :func:`pack`; a binary kernel comes back as ``sign * scale``.

    Raises:
        UserError: the tensors do not have the sizes that the architecture needs.
    """
    shapes, binary = layout(config)
    bytes_of = {name: -(-shape.numel() // 8) for name, shape in shapes.items() if name in binary}
    values_of = {name: shape[0] if name in binary else shape.numel() for name, shape in shapes.items()}
    bits, values = packed.get(BITS), packed.get(VALUES)
    for key, tensor, dtype, size in (
        (BITS, bits, torch.uint8, sum(bytes_of.values())),
        (VALUES, values, torch.float32, sum(values_of.values())),
    ):
        if not isinstance(tensor, Tensor) or tensor.dtype != dtype or tensor.shape != (size,):
            raise UserError(f"{source}: packed {key} are not the {size} that the architecture needs; it is damaged.")
    assert bits is not None
    assert values is not None
    state: dict[str, Tensor] = {}
    bit_start = value_start = 0
    for name, shape in shapes.items():
        part = values[value_start : value_start + values_of[name]]
        value_start += values_of[name]
        if name in binary:
            packed_bits = bits[bit_start : bit_start + bytes_of[name]].numpy()
            bit_start += bytes_of[name]
            negative = np.unpackbits(packed_bits, count=shape.numel()).astype(np.float32).reshape(shape)
            state[name] = torch.from_numpy(1.0 - 2.0 * negative) * part[:, None, None, None]
        else:
            state[name] = part.reshape(shape).clone()
    return state
