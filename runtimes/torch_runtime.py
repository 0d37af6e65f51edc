"""PyTorch: the checkpoint itself, the reference for every artifact."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bihrnet_edge.errors import require_module
from bihrnet_edge.runtimes.base import Heatmaps, Images, Runner, check_threads

if TYPE_CHECKING:
    from torch import Tensor

    from bihrnet_edge.model.hrnet import BiHRNet
    from bihrnet_edge.pose.metadata import PoseMetadata

INSTALL = 'install it with: pip install "bihrnet-edge[export]"'


class TorchRunner(Runner):
    """A checkpoint, by its path or by the name of a bundled one."""

    name = "torch"
    batch = None

    def __init__(self, model: str, threads: int = 1, preset: str | None = None) -> None:
        require_module("torch", f"running the checkpoint {model}", INSTALL)
        from bihrnet_edge.model.checkpoint import load_checkpoint

        checkpoint = load_checkpoint(model, preset)
        self._start(checkpoint.build(), checkpoint.metadata, threads)

    @classmethod
    def of(cls, network: BiHRNet, metadata: PoseMetadata, threads: int = 1) -> TorchRunner:
        """A runner of a network in memory."""
        runner = cls.__new__(cls)
        runner._start(network, metadata, threads)
        return runner

    def _start(self, network: BiHRNet, metadata: PoseMetadata, threads: int) -> None:
        import torch

        self._torch = torch
        # The setting belongs to the process: the runner that was opened last decides.
        torch.set_num_threads(check_threads(threads))
        self._network, self.metadata = network.eval(), metadata
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
