"""Hands out a checkpoint's tensors by name, and makes sure that every one was asked for exactly once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bihrnet_edge.errors import UserError

if TYPE_CHECKING:
    import torch

#: BatchNorm's step counter: bookkeeping of the training, no weight of the network.
_IGNORED_SUFFIX = ".num_batches_tracked"

FloatArray = npt.NDArray[np.float32]


class WeightStore:
    """A ``state_dict`` that notices what is missing, what has another shape and what is left over.

    Args:
        state: tensors or arrays by PyTorch name, e.g. ``stage1.0.reduce.conv.weight``.

    Example:
        >>> store = WeightStore({"head.bias": np.zeros(17, np.float32)})
        >>> store.take("head.bias", (17,)).shape
        (17,)
        >>> store.finish()
    """

    def __init__(self, state: Mapping[str, torch.Tensor | npt.NDArray[Any]]) -> None:
        self._left = {name: value for name, value in state.items() if not name.endswith(_IGNORED_SUFFIX)}

    def take(self, name: str, shape: tuple[int, ...]) -> FloatArray:
        """The float32 values of one tensor, which must have this shape and is handed out once.

        Raises:
            UserError: the tensor is missing, has another shape, or holds values that are not finite.
        """
        if name not in self._left:
            raise UserError(
                f"the weights have no tensor {name!r}; they belong to another architecture than the config."
            )
        value = self._left.pop(name)
        array = np.ascontiguousarray(
            value if isinstance(value, np.ndarray) else value.detach().cpu().numpy(), dtype=np.float32
        )
        if array.shape != shape:
            raise UserError(
                f"the weights' tensor {name!r} has shape {array.shape}, the config makes it {shape}; "
                "give the config that the weights were trained with."
            )
        if not np.isfinite(array).all():
            raise UserError(
                f"the weights' tensor {name!r} holds NaN or infinity; train again from an earlier checkpoint."
            )
        return array

    def finish(self) -> None:
        """Declare the network complete.

        Raises:
            UserError: tensors are left that no layer asked for.
        """
        if self._left:
            raise UserError(
                f"the weights hold {len(self._left)} tensors that the config has no layer for, the first is "
                f"{min(self._left)!r}; give the config that the weights were trained with."
            )


def binary_magnitude(kernel: npt.NDArray[Any]) -> npt.NDArray[np.float32] | None:
    """``a`` ``(O, 1, 1, 1)`` of a float32 kernel of four axes, ``O`` first, that holds exactly ``+-a``, else None."""
    if kernel.dtype != np.float32 or kernel.ndim != 4 or kernel[0].size < 2:
        return None
    magnitude = np.abs(kernel)
    first: npt.NDArray[np.float32] = magnitude[:, :1, :1, :1]
    return first if bool((magnitude == first).all()) else None
