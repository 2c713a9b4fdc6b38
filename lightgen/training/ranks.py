"""The processes of a training run: who this one is, how the model is spread over them, and what they agree on."""

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

TIMEOUT = timedelta(minutes=30)  # of a collective; a dead rank is noticed by torchrun long before


@dataclass(frozen=True)
class World:
    """This process among those that train together."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def leads(self) -> bool:
        """True for the one process that writes, logs and draws."""
        return self.rank == 0

    def mean(self, values: Tensor) -> Tensor:
        """Mean of `values` over the processes, the same in all of them."""
        if self.size == 1:
            return values
        values = values.clone()
        dist.all_reduce(values)
        return values / self.size

    def agree(self, word: str) -> str:
        """The first process's `word`, in all of them."""
        words = [word]
        if self.size > 1:
            dist.broadcast_object_list(words, src=0)
        return words[0]

    def meet(self) -> None:
        """Wait for all."""
        if self.size > 1:
            dist.barrier()


@contextmanager
def joined(world: World, device: str) -> Iterator[World]:
    """Join the other processes that torchrun started; leaves them at the end."""
    if device == "cuda":
        torch.cuda.set_device(world.local_rank)
    dist.init_process_group("cpu:gloo,cuda:nccl" if device == "cuda" else "gloo", timeout=TIMEOUT)
    try:
        yield world
    finally:
        dist.destroy_process_group()


def spread(module: nn.Module, world: World, strategy: Strategy, blocks: list[nn.Module]) -> nn.Module:
    """`module` under DDP, or with parameters sharded (FSDP2): a group for each of `blocks` and one for the rest."""
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


def synchronise(module: nn.Module, now: bool) -> None:
    """Whether the next backward pass ends with an exchange of gradients: only a step's last piece needs one."""
    if isinstance(module, DistributedDataParallel):
        module.require_backward_grad_sync = now
    elif hasattr(module, "set_requires_gradient_sync"):
        module.set_requires_gradient_sync(now)  # type: ignore[operator]


def is_sharded(tensor: Tensor) -> bool:
    """True for a tensor of which each process holds a part (a DTensor, whose import takes too long to ask its type)."""
    return hasattr(tensor, "full_tensor")


def whole(tensor: Tensor) -> Tensor:
    """A sharded tensor put together (all processes must ask), any other as it is."""
    sharded: Any = tensor
    return sharded.full_tensor() if is_sharded(tensor) else tensor


def sharded_like(parameter: Tensor, value: Tensor) -> Tensor:
    """`value`, which every process holds whole, sharded as `parameter` is, if it is and the shapes agree."""
    if not is_sharded(parameter) or parameter.shape != value.shape:
        return value
    from torch.distributed.tensor import distribute_tensor

    sharded: Any = parameter
    value = value.detach().to(parameter.device, parameter.dtype)
    return distribute_tensor(value, sharded.device_mesh, sharded.placements, src_data_rank=None)


def local(tensor: Tensor) -> Tensor:
    """The part of a tensor that lies in this process."""
    sharded: Any = tensor
    return sharded.to_local() if is_sharded(tensor) else tensor
