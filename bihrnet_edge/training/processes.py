"""Data-parallel training by Lightning Fabric: starting the processes, and what they share beside gradients."""

from __future__ import annotations

import contextlib
import inspect
import logging
import os
from collections.abc import Iterator
from typing import Any, Literal

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from bihrnet_edge.errors import UserError
from bihrnet_edge.training.recipe import Precision

#: Torch renamed what says that processes keep their own buffers in 2.13.
_OWN_STATISTICS: dict[str, Any] = {
    "forward_sync_buffers"
    if "forward_sync_buffers" in inspect.signature(DistributedDataParallel).parameters
    else "broadcast_buffers": False
}
Accelerator = Literal["auto", "cpu", "cuda"]


def make_fabric(
    accelerator: Accelerator = "cpu", devices: int = 1, nodes: int = 1, precision: Precision = "32-true"
) -> Fabric:
    """Fabric for ``devices`` processes on each of ``nodes`` machines; one process needs no launcher.

    Raises:
        UserError: the accelerator is not there, or has fewer devices.
    """
    if accelerator == "auto":
        accelerator = "cuda" if torch.cuda.is_available() else "cpu"
    if accelerator == "cuda" and torch.cuda.device_count() < devices:
        raise UserError(
            f"--accelerator cuda --devices {devices}: torch finds {torch.cuda.device_count()} CUDA devices here; "
            "give fewer, or --accelerator cpu."
        )
    if accelerator == "cpu" and precision == "16-mixed":
        raise UserError("precision is 16-mixed, which a CPU does not train in; choose bf16-mixed or 32-true.")
    strategy: DDPStrategy | str = "auto"
    if devices * nodes > 1:
        # BatchNorm statistics stay each process' own during an epoch and are averaged at its end.
        strategy = DDPStrategy(gradient_as_bucket_view=True, **_OWN_STATISTICS)
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it announces every process
    return Fabric(accelerator=accelerator, devices=devices, num_nodes=nodes, strategy=strategy, precision=precision)


def is_first_process() -> bool:
    """Whether this process reports; known before Fabric has started the others."""
    return all(int(os.environ.get(name, "0") or 0) == 0 for name in ("LOCAL_RANK", "NODE_RANK"))


def share_of(batch: int, fabric: Fabric) -> slice:
    """The part of a batch of that many that this process takes."""
    size = batch // fabric.world_size
    return slice(fabric.global_rank * size, (fabric.global_rank + 1) * size)


@contextlib.contextmanager
def together(fabric: Fabric) -> Iterator[None]:
    """What fails in one process fails in all of them at the end of the block, so that none waits for another.

    Every process goes through the block, in which they exchange nothing else.

    Raises:
        UserError: that of the first process that raised one.
    """
    failure: UserError | None = None
    try:
        yield
    except UserError as error:
        failure = error
    if fabric.world_size > 1:
        everyones: list[UserError | None] = [None] * fabric.world_size
        torch.distributed.all_gather_object(everyones, failure)
        failure = next((error for error in everyones if error is not None), None)
    if failure is not None:
        raise failure


def gather(fabric: Fabric, values: Tensor) -> Tensor:
    """``values`` of every process, ``(processes, ...)``, in all of them; shapes are the same everywhere."""
    rows = torch.zeros((fabric.world_size, *values.shape), dtype=values.dtype, device=values.device)
    rows[fabric.global_rank] = values
    if fabric.world_size > 1:
        rows = fabric.all_reduce(rows, reduce_op="sum")  # type: ignore[assignment]
    return rows


def _statistics(module: nn.Module) -> list[Tensor]:
    return [buffer for buffer in module.buffers() if buffer.is_floating_point()]


def _set_statistics(module: nn.Module, flat: Tensor) -> None:
    start = 0
    for buffer in _statistics(module):
        buffer.copy_(flat[start : start + buffer.numel()].view_as(buffer))
        start += buffer.numel()


def _flat_statistics(module: nn.Module) -> Tensor:
    return torch.cat([buffer.reshape(-1) for buffer in _statistics(module)])


@torch.no_grad()
def average_statistics(fabric: Fabric, module: nn.Module) -> None:
    """Make BatchNorm's running statistics the mean of all processes'."""
    if fabric.world_size > 1:
        mean = fabric.all_reduce(_flat_statistics(module), reduce_op="mean")
        assert isinstance(mean, Tensor)
        _set_statistics(module, mean)


@torch.no_grad()
def gather_statistics(fabric: Fabric, module: nn.Module) -> Tensor:
    """BatchNorm's running statistics of each process, ``(processes, numbers)`` on the CPU."""
    return gather(fabric, _flat_statistics(module)).cpu()


@torch.no_grad()
def restore_statistics(fabric: Fabric, module: nn.Module, gathered: Tensor) -> None:
    """Inverse of :func:`gather_statistics`; another number of processes starts from the mean."""
    if len(gathered) == fabric.world_size:
        _set_statistics(module, gathered[fabric.global_rank])
    else:
        _set_statistics(module, gathered.mean(dim=0))
