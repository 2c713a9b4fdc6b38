"""The processes of a training run: this one's rank, its collectives, and how a module is spread over all of them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from lightgen.training.launch import Strategy

TIMEOUT = timedelta(minutes=30)  # of a collective; torchrun notices a dead rank long before


@dataclass(frozen=True)
class World:
    """This process among those that train together, and the collectives they use."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def is_main(self) -> bool:
        """True for rank 0, the one process that logs, draws samples and seals checkpoints."""
        return self.rank == 0

    def all_reduce_mean(self, values: Tensor) -> Tensor:
        """Mean of `values` over the processes, the same in all of them."""
        if self.size == 1:
            return values
        values = values.clone()
        dist.all_reduce(values)
        return values / self.size

    def broadcast(self, text: str) -> str:
        """Rank 0's `text`, in all processes."""
        texts = [text]
        if self.size > 1:
            dist.broadcast_object_list(texts, src=0)
        return texts[0]

    def barrier(self) -> None:
        """Wait until all processes are here."""
        if self.size > 1:
            dist.barrier()


@contextmanager
def process_group(world: World, device: str) -> Iterator[World]:
    """Join the default process group of the processes that torchrun started; leave it at the end."""
    if device == "cuda":
        torch.cuda.set_device(world.local_rank)
    dist.init_process_group("cpu:gloo,cuda:nccl" if device == "cuda" else "gloo", timeout=TIMEOUT)
    try:
        yield world
    finally:
        dist.destroy_process_group()


def parallelize(module: nn.Module, world: World, strategy: Strategy, blocks: list[nn.Module]) -> nn.Module:
    """`module` under DDP, or under FSDP2: one group of sharded parameters for each of `blocks`, one for the rest."""
    if world.size == 1:
        return module
    if strategy == "ddp":
        return DistributedDataParallel(module, gradient_as_bucket_view=True)
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard  # two thirds of a second, which no other process should pay

    mesh = init_device_mesh(next(module.parameters()).device.type, (world.size,))
    for block in blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(module, mesh=mesh)  # in place: the module's class is changed
    return module


def set_gradient_sync(module: nn.Module, enabled: bool) -> None:
    """Whether the next backward pass reduces gradients over the processes: only a step's last microbatch needs to."""
    if isinstance(module, DistributedDataParallel):
        module.require_backward_grad_sync = enabled
    elif hasattr(module, "set_requires_gradient_sync"):
        module.set_requires_gradient_sync(enabled)  # type: ignore[operator]


def is_sharded(tensor: Tensor) -> bool:
    """True for a DTensor, of which each process holds a part (importing the class only to ask takes too long)."""
    return hasattr(tensor, "full_tensor")


def full_tensor(tensor: Tensor) -> Tensor:
    """A sharded tensor, gathered from all processes, which must all call this; any other tensor as it is."""
    sharded: Any = tensor
    return sharded.full_tensor() if is_sharded(tensor) else tensor


def to_local(tensor: Tensor) -> Tensor:
    """This process's part of a sharded tensor; any other tensor as it is."""
    sharded: Any = tensor
    return sharded.to_local() if is_sharded(tensor) else tensor


def shard_like(parameter: Tensor, value: Tensor) -> Tensor:
    """`value`, which every process holds in full, sharded as `parameter` is, if it is and the shapes agree."""
    if not is_sharded(parameter) or parameter.shape != value.shape:
        return value
    from torch.distributed.tensor import distribute_tensor

    sharded: Any = parameter
    value = value.detach().to(parameter.device, parameter.dtype)
    return distribute_tensor(value, sharded.device_mesh, sharded.placements, src_data_rank=None)
