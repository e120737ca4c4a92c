"""Distributed training: the processes that train together; one process is a world of size 1.

With whole copies (`sharding: ddp`) a step sums the gradients in one all-reduce, which a CUDA graph can record. With FSDP2 a
parameter, its gradient and its moments are DTensors: each process has a shard. The functions below make full tensors of shards
and shards of full tensors, and return plain tensors as they are, so that no other code needs to know of shards. Those that read
shards communicate with the other processes: every process must call them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from model import GPT2
from stages.common import session
from stages.common.errors import UserError

TORCHRUN = "TORCHELASTIC_RUN_ID"  # torchrun sets it in each process that it starts
LAUNCHED = "GPT2_PIPELINE_LAUNCHED"  # set in a process that its launcher has started


@dataclass(frozen=True)
class World:
    """Who we are among the processes of one training, as torchrun's environment says."""

    rank: int = 0  # 0 to size - 1; rank 0 alone writes files and logs
    size: int = 1
    local_rank: int = 0  # rank on this machine: the number of its GPU

    @property
    def is_main(self) -> bool:
        """Whether this process writes and logs."""
        return self.rank == 0

    def sum(self, value: Tensor) -> Tensor:
        """The sum of a tensor over all processes."""
        if self.size > 1:
            dist.all_reduce(value)
        return value

    def any(self, *flags: bool) -> list[bool]:
        """For each flag, whether any process says yes, so that all do the same at the same step."""
        return [count > 0 for count in self.sum(torch.tensor(flags, dtype=torch.int32)).tolist()]

    def barrier(self) -> None:
        """Wait for all processes."""
        if self.size > 1:
            dist.barrier()


def relaunch(launcher: str) -> None:
    """Replace this process by `launcher ... -m stages.train`, unless it is plain `python` or has been started so already, by
    us or by torchrun. RANK alone does not say so: platforms leave it.

    `dvc.yaml` cannot do it: with `${launcher}` in a command, DVC reads all of params.yaml as a template, and then a `${` in a
    prompt is taken for a key. `python` and `torchrun` are those of this environment, whatever PATH says.
    """
    program, *options = launcher.split()
    if launcher == "python" or LAUNCHED in os.environ or TORCHRUN in os.environ:
        return
    module = ["-m", "torch.distributed.run"] if program == "torchrun" else []
    words = [sys.executable, *module, *options, "-m", "stages.train", *sys.argv[1:]]
    sys.stdout.flush()
    os.execve(sys.executable, words, os.environ | {LAUNCHED: "1"})


@contextmanager
def init_process_group(device: str) -> Iterator[World]:
    """Join the processes that torchrun started (gloo on CPUs, NCCL on GPUs), and leave at the end."""
    rank, size = session.rank_and_size()
    if size == 1:
        yield World()
        return
    world = World(rank, size, int(os.environ.get("LOCAL_RANK", "0")))
    if device.startswith("cuda"):
        _take_gpu(device, world)
    # gloo beside NCCL: small questions (shall we stop?) are asked with CPU tensors
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.startswith("cuda") else "gloo")
    try:
        yield world
    finally:
        dist.destroy_process_group()


def _take_gpu(device: str, world: World) -> None:
    """Let `cuda` mean this process's own GPU."""
    if ":" in device:
        raise UserError(f"device: {device} is one GPU for {world.size} processes. Set device to cuda: each takes its own")
    if world.local_rank >= (count := torch.cuda.device_count()):
        raise UserError(
            f"launcher: process {world.local_rank + 1} of this machine has no GPU of its own (CUDA devices: {count}). "
            f"Start {count} a machine (--nproc-per-node {count}), or set device to cpu"
        )
    torch.cuda.set_device(world.local_rank)


class Loss(nn.Module):
    """The network as a module whose output is its training loss: what FSDP2 wraps."""

    def __init__(self, net: GPT2) -> None:
        super().__init__()
        self.net = net

    def forward(self, tokens: Tensor, targets: Tensor, total: int | Tensor) -> Tensor:
        return self.net.loss(tokens, targets, total)


def distribute(net: GPT2, world: World, sharding: str) -> nn.Module:
    """The loss of the network, which is on its device, as a module for this world.

    `ddp` = a whole copy in each process; `fsdp` = parameters, gradients and optimizer in shards (FSDP2).
    """
    module = Loss(net)
    if world.size > 1 and sharding == "fsdp":
        from torch.distributed.fsdp import fully_shard

        for block in net.h:
            fully_shard(block)
        fully_shard(module)
    elif world.size > 1:  # two kinds of machines may not have made the same first weights
        for parameter in net.parameters():
            dist.broadcast(parameter.detach(), src=0)
    return module


def reshard(module: nn.Module) -> None:
    """Put the outermost parameters in shards again, which FSDP2 leaves whole after a forward pass without a backward one."""
    getattr(module, "reshard", lambda: None)()


def sum_gradients(loss: Tensor, parameters: Sequence[Tensor], world: World) -> Tensor:
    """Sum a loss, which is returned, and the parameters' gradients over all processes, in one all-reduce."""
    if world.size == 1:
        return loss
    trained = [p for p in parameters if p.grad is not None]
    flat = world.sum(torch.cat([*(p.grad.flatten() for p in trained if p.grad is not None), loss.view(1)]))
    for p, gradient in zip(trained, torch.split(flat[:-1], [p.numel() for p in trained]), strict=True):
        p.grad = gradient.view_as(p)
    return flat[-1]


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
