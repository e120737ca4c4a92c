"""Distributed training: the processes that train together (PyTorch's DDP or FSDP2); one process is a world of size 1.

With FSDP2 a parameter, its gradient and its moments are DTensors: each process has a shard. The functions below make full
tensors of shards and shards of full tensors, and return plain tensors as they are, so that no other code needs to know of
shards. Those that read shards communicate with the other processes: every process must call them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from model import GPT2

LAUNCHED = "GPT2_PIPELINE_LAUNCHED"  # set in a process that its launcher has started


@dataclass(frozen=True)
class World:
    """Who we are among the processes of one training, as torchrun's environment says.

    Attributes:
        rank: 0 to size - 1; rank 0 alone writes files and logs.
        size: processes.
        local_rank: rank on this machine: the number of its GPU.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def is_main(self) -> bool:
        """Whether this process writes and logs."""
        return self.rank == 0

    def sum(self, value: Tensor) -> Tensor:
        """The sum of a tensor over all processes."""
        if self.size > 1:
            dist.all_reduce(value)
        return value

    def any(self, flag: bool) -> bool:
        """Whether any process says yes, so that all do the same at the same step."""
        return bool(self.sum(torch.tensor(float(flag))).item()) if self.size > 1 else flag

    def barrier(self) -> None:
        """Wait for all processes."""
        if self.size > 1:
            dist.barrier()


def relaunch(launcher: str) -> None:
    """Replace this process by `launcher ... -m stages.train`, unless it is plain `python` or has been started so already.

    `dvc.yaml` cannot do it: with `${launcher}` in a command, DVC reads all of params.yaml as a template, and then a `${` in a
    prompt is taken for a key. `python` and `torchrun` are those of this environment, whatever PATH says.
    """
    program, *options = launcher.split()
    if launcher == "python" or LAUNCHED in os.environ or "RANK" in os.environ:
        return
    module = ["-m", "torch.distributed.run"] if program == "torchrun" else []
    words = [sys.executable, *module, *options, "-m", "stages.train", *sys.argv[1:]]
    sys.stdout.flush()
    os.execve(sys.executable, words, os.environ | {LAUNCHED: "1"})


@contextmanager
def init_process_group(device: str) -> Iterator[World]:
    """Join the processes that torchrun started (gloo on CPUs, NCCL on GPUs), and leave at the end."""
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        yield World()
        return
    world = World(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), int(os.environ.get("LOCAL_RANK", "0")))
    if device.startswith("cuda"):
        torch.cuda.set_device(world.local_rank)
    # gloo beside NCCL: small questions (shall we stop?) are asked with CPU tensors
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.startswith("cuda") else "gloo")
    try:
        yield world
    finally:
        dist.destroy_process_group()


class Loss(nn.Module):
    """The network as a module whose output is its training loss: what DDP, FSDP2 and torch.compile wrap."""

    def __init__(self, net: GPT2) -> None:
        super().__init__()
        self.net = net

    def forward(self, tokens: Tensor, targets: Tensor, total: int | Tensor) -> Tensor:
        return self.net.loss(tokens, targets, total)


def distribute(net: GPT2, world: World, sharding: str, compiled: bool) -> nn.Module:
    """Wrap the network's loss for this world.

    Args:
        net: on its device.
        world: the processes.
        sharding: `ddp` = a whole copy in each process; `fsdp` = parameters, gradients and optimizer in shards (FSDP2).
        compiled: let torch.compile make the network's parts faster.
    """
    module: Any = Loss(net)
    if compiled:
        net.compile_parts()
    if world.size > 1 and sharding == "fsdp":
        from torch.distributed.fsdp import fully_shard

        for block in net.h:
            fully_shard(block)
        fully_shard(module)
    if world.size > 1 and sharding == "ddp":
        from torch.nn.parallel import DistributedDataParallel

        module = DistributedDataParallel(module, gradient_as_bucket_view=True)
    return module  # type: ignore[no-any-return]


def backward(loss: Tensor, world: World) -> None:
    """Add the loss's gradients. Over the processes they are summed, where DDP and FSDP2 by themselves take the mean."""
    (loss * world.size if world.size > 1 else loss).backward()  # type: ignore[no-untyped-call]


def no_sync(module: nn.Module) -> AbstractContextManager[None]:
    """DDP: within it the processes keep their gradients to themselves, for all but the last micro-batch of a step."""
    return getattr(module, "no_sync", nullcontext)()


def gradient_norm(gradients: list[Tensor]) -> Tensor:
    """The norm of all gradients together, a scalar."""
    return full_tensor(torch.nn.utils.get_total_norm(gradients))


def local_shard(value: Tensor) -> Tensor:
    """This process's shard, as a plain tensor that shares its memory; a plain tensor as it is."""
    return value.to_local() if isinstance(value, DTensor) else value


def full_tensor(value: Tensor) -> Tensor:
    """The full tensor of a process's shard; a plain tensor as it is."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def shard_like(value: Tensor, like: Tensor) -> Tensor:
    """A full tensor on the device of `like`, and in its shards if it has the same shape."""
    value = value.to(like.device)
    if isinstance(like, DTensor) and value.shape == like.shape:
        return distribute_tensor(value, like.device_mesh, like.placements)
    return value


def is_sharded(net: nn.Module) -> bool:
    """Whether each process has only shards of the network."""
    return any(isinstance(parameter, DTensor) for parameter in net.parameters())


def full_network(net: GPT2) -> GPT2:
    """The full network, on the CPU."""
    if not is_sharded(net):
        return net.cpu()
    weights = {key: full_tensor(value).cpu() for key, value in net.state_dict().items()}
    net = GPT2(net.config)
    net.load_state_dict(weights)
    return net
