"""The training step: how the weights change. *Eager* runs its body, *captured* (`captured_step`) records it and replays it.

The body reads tensors and writes tensors, and decides nothing on the CPU. Learning rate, number of targets, and whether the
step counts are on the device, so the body is the same sequence of operations at each step.
"""

from __future__ import annotations

import re
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from model import GPT2, GPT2Config
from stages.compute.machine import DTYPES
from stages.training import distributed
from stages.training.batches import Batches, seed_step
from stages.training.distributed import World
from stages.training.optimizer import Controls

MicroBatch = tuple[Tensor, Tensor]  # tokens and targets, (n, T) int64 each
COMPILED_FROM = (8, 0)  # compute capability; older GPUs compute the attention by hand, which is not compiled
# seconds to compile, and seconds saved per step, per block and per activation, measured on an H200
SECONDS_TO_COMPILE, SECONDS_PER_BLOCK, SECONDS_PER_ACTIVATION = 12.0, 50e-6, 0.2e-9


@dataclass(frozen=True)
class Batch:
    """What one optimizer step works on.

    Attributes:
        number: of the step; 0 is the first.
        micro_batches: this process's part of each, on the CPU.
        total: targets in the step, over all processes.
        lr: the learning rate.
    """

    number: int
    micro_batches: list[MicroBatch]
    total: int
    lr: float


@dataclass(frozen=True)
class StepParts:
    """What a step is made of.

    Attributes:
        net: the network.
        module: its loss, wrapped for the world, see `distributed.distribute`.
        compiled: whether the network's parts are compiled.
        controls: what the step tells the optimizers.
        optimizers: see `make_optimizers`.
        world: the processes.
        precision: `fp32`, `bf16`, or `fp16`, whose loss is scaled so that small gradients do not become 0.
        seed: of dropout.
        clip: the largest gradient norm; 0 = no limit.
    """

    net: GPT2
    module: nn.Module
    compiled: bool
    controls: Controls
    optimizers: list[Optimizer]
    world: World
    precision: str
    seed: int
    clip: float


class EagerStep:
    """One optimizer step: called with a batch, it returns the loss (nats per token) and the gradient norm before clipping.

    The result is a (2,) float32 tensor on the device; only reading it waits for a GPU. A step whose loss or norm is not
    finite changes nothing.

    Attributes:
        autocast: the context in which the network computes in the precision of the run.
        scaler: the scale of the loss and how it changes; enabled in fp16 only.
    """

    def __init__(self, parts: StepParts) -> None:
        self.parts = parts
        self.trained = [p for p in parts.net.parameters() if p.requires_grad]
        self.device = self.trained[0].device
        dtype = DTYPES[parts.precision]
        self.autocast = torch.autocast(self.device.type, dtype, enabled=dtype != torch.float32)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=parts.precision == "fp16")
        self.total = torch.zeros((), dtype=torch.int64, device=self.device)
        self.result = torch.zeros(2, device=self.device)

    def __call__(self, batch: Batch) -> Tensor:
        """Take the step."""
        self.prepare(batch)
        self.body([to_device(micro_batch, self.device) for micro_batch in batch.micro_batches])
        return self.result.clone()

    def prepare(self, batch: Batch) -> None:
        """Set what differs from step to step, the windows apart."""
        self.parts.controls.lr.fill_(batch.lr)
        self.total.fill_(batch.total)
        seed_step(self.parts.seed, batch.number, self.parts.world.rank)

    def body(self, micro_batches: list[MicroBatch]) -> None:
        """Gradients of all micro-batches, their norm, the optimizers' update; loss and norm go into `result`."""
        parts = self.parts
        loss = parts.world.sum(self._add_gradients(micro_batches))
        for optimizer in parts.optimizers:
            self.scaler.unscale_(optimizer)
        gradients = [p.grad for p in self.trained if p.grad is not None]
        norm = distributed.gradient_norm(gradients)
        parts.controls.found_inf.copy_(~(loss.isfinite() & norm.isfinite()))
        if parts.clip > 0.0:
            factor = (parts.clip / norm.double()).clamp(max=1.0).float()
            torch._foreach_mul_([distributed.local_shard(gradient) for gradient in gradients], factor)
        for optimizer in parts.optimizers:
            optimizer.step()
        self.result.copy_(torch.stack([loss, norm]))
        self.scaler.update()
        del gradients
        self.forget_gradients()

    def _add_gradients(self, micro_batches: list[MicroBatch]) -> Tensor:
        """This process's part of the loss. Afterwards the gradients are those of all processes' micro-batches together."""
        loss = torch.zeros((), device=self.device)
        for index, (tokens, targets) in enumerate(micro_batches):
            last = index == len(micro_batches) - 1
            with nullcontext() if last else distributed.no_sync(self.parts.module):
                with self.autocast:
                    part = self.parts.module(tokens, targets, self.total)
                distributed.backward(self.scaler.scale(part), self.parts.world)
            loss += part.detach()
        return loss

    def forget_gradients(self) -> None:
        """Free the gradients."""
        for p in self.trained:
            p.grad = None


def to_device(micro_batch: MicroBatch, device: torch.device) -> MicroBatch:
    """A micro-batch on the device; on a GPU the copy may still be running."""
    tokens, targets = (pinned(part, device).to(device, non_blocking=True, copy=True) for part in micro_batch)
    return tokens, targets


def pinned(part: Tensor, device: torch.device) -> Tensor:
    """The tensor in pinned memory, from which a GPU copies without the CPU."""
    return part.pin_memory() if device.type == "cuda" else part


def uncompiled(compiled: bool) -> AbstractContextManager[Any]:
    """Within it, compiled parts run uncompiled, for shapes that are too rare to be worth compiling."""
    return torch.compiler.set_stance("force_eager") if compiled else nullcontext()


def compiles(wanted: bool | str, device: str, config: GPT2Config, tokens: int, steps: int) -> bool:
    """Whether to compile: `auto` = on a GPU with Triton where the training is long enough to pay for it.

    Args:
        wanted: `auto`, true or false.
        device: of the training.
        config: of the network.
        tokens: of a step.
        steps: of the training.
    """
    if isinstance(wanted, bool):
        return wanted
    if not device.startswith("cuda") or find_spec("triton") is None or torch.cuda.get_device_capability() < COMPILED_FROM:
        return False
    saved = config.n_layer * (SECONDS_PER_BLOCK + SECONDS_PER_ACTIVATION * tokens * config.n_embd)
    return steps * saved > SECONDS_TO_COMPILE


def out_of_memory_advice(error: Exception, batches: Batches, device: torch.device) -> str | None:
    """After this error in a step: what to lower, and by how much, with the numbers; None if the error is of another kind."""
    if not isinstance(error, (torch.OutOfMemoryError, MemoryError)) and "memory" not in str(error).lower():
        return None
    wanted = re.search(r"tried to allocate ([\d.]+ ?\w+)", str(error), re.IGNORECASE)
    numbers = [f"{wanted[1]} more wanted"] if wanted else []
    if device.type == "cuda":
        used, whole = torch.cuda.memory_allocated(device), torch.cuda.get_device_properties(device).total_memory
        numbers.append(f"{used / 2**30:.2f} GiB in use of {whole / 2**30:.2f} GiB")
    known = f" ({', '.join(numbers)})" if numbers else ""
    if batches.batch_size > 1:
        half = (batches.batch_size + 1) // 2
        advice = (
            f"lower batch_size from {batches.batch_size} to {half} and raise grad_accumulation from {batches.accumulation} "
            f"to {batches.accumulation * 2}: the same training in about half the memory"
        )
    else:
        advice = f"lower block_size from {batches.block_size} to {max(1, batches.block_size // 2)}, or n_embd or n_layer"
    return f"out of memory in a training step{known}: {advice}"
