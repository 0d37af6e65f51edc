"""PyTorch: the checkpoint itself, the reference for every artifact."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bihrnet_edge.runtimes.base import Heatmaps, Images, Runner, check_threads, require_module

if TYPE_CHECKING:
    from torch import Tensor

INSTALL = 'install it with: pip install "bihrnet-edge[export]"'


class TorchRunner(Runner):
    """A checkpoint, by its path or by the name of a bundled one."""

    name = "torch"
    batch = None

    def __init__(self, model: str, threads: int = 1) -> None:
        torch = require_module("torch", f"running the checkpoint {model}", INSTALL)
        from bihrnet_edge.model.checkpoint import load_checkpoint

        self._threads = check_threads(threads)
        checkpoint = load_checkpoint(model)
        self.metadata = checkpoint.metadata
        self._torch = torch
        # The setting belongs to the process: the runner that was opened last decides.
        torch.set_num_threads(threads)
        self._network = checkpoint.build().eval()
        self._input: Tensor | None = None
        self._output: Tensor | None = None

    def prepare(self, images: Images) -> None:
        """Channels first, as a tensor."""
        self._input = self._torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))

    def invoke(self) -> None:
        """One forward pass."""
        with self._torch.inference_mode():
            self._output = self._network(self._input)

    def heatmaps(self) -> Heatmaps:
        """As NumPy."""
        assert self._output is not None, "call invoke first"
        return np.array(self._output.numpy(), np.float32)
