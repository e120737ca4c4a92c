"""The training step: how the weights change. *Eager* runs its body; *captured* records it as a CUDA graph and replays it.

The body reads tensors and writes tensors, and decides nothing on the CPU. Learning rate, number of targets, and whether the
step counts are on the device, so the body is the same sequence of operations at each step. On a GPU a small network's step
takes as long as the CPU needs to launch its hundreds of kernels; a replay is one launch.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from tqdm import tqdm

from model import GPT2
from model.generation import Recorder, ReplayFn
from stages.common.params import TrainParams
from stages.compute import machine
from stages.compute.cuda_graph import CaptureFailed, cuda_graph
from stages.compute.machine import DTYPES
from stages.training import distributed
from stages.training.batches import Windows, seed_step
from stages.training.distributed import World
from stages.training.optimizer import Controls, make_optimizers


@dataclass(frozen=True)
class Batch:
    """What one optimizer step works on."""

    number: int  # of the step; 0 is the first
    micro_batches: list[Windows]  # this process's part of each, on the CPU
    total: int  # targets in the step, over all processes
    lr: float


@dataclass(frozen=True)
class StepParts:
    """What a step is made of."""

    net: GPT2
    module: nn.Module  # its loss, wrapped for the world, see `distributed.distribute`
    controls: Controls  # what the step tells the optimizers
    optimizers: list[Optimizer]
    world: World
    precision: str  # `fp32`, `bf16`, or `fp16`, whose loss is scaled so that small gradients do not become 0
    seed: int  # of dropout
    clip: float  # the largest gradient norm; 0 = no limit


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
        self.sharded = distributed.is_sharded(parts.net)
        self.total = torch.zeros((), dtype=torch.int64, device=self.device)
        self.result = torch.zeros(2, device=self.device)

    def __call__(self, batch: Batch) -> Tensor:
        """Take the step."""
        self.prepare(batch)
        self.body([to_device(micro_batch, self.device) for micro_batch in batch.micro_batches])
        return self.result.clone()

    def prepare(self, batch: Batch) -> None:
        """Set everything but the windows that differs from step to step."""
        self.parts.controls.lr.fill_(batch.lr)
        self.total.fill_(batch.total)
        seed_step(self.parts.seed, batch.number, self.parts.world.rank, self.device)

    def body(self, micro_batches: list[Windows]) -> None:
        """Gradients of all micro-batches, their norm, the optimizers' update; loss and norm go into `result`."""
        parts = self.parts
        loss = self._add_gradients(micro_batches)
        for optimizer in parts.optimizers:
            self.scaler.unscale_(optimizer)
        gradients = [p.grad for p in self.trained if p.grad is not None]
        norm = distributed.full_tensor(torch.nn.utils.get_total_norm(gradients))
        both = loss + norm
        parts.controls.found_inf.copy_(both - both != 0.0)  # x - x is 0 where x is finite, else NaN
        if parts.clip > 0.0:
            parts.controls.clip([distributed.local_shard(gradient) for gradient in gradients], norm, parts.clip)
        for optimizer in parts.optimizers:
            optimizer.step()
        self.result.copy_(torch.stack([loss, norm]))
        self.scaler.update()
        del gradients
        self.forget_gradients()

    def _add_gradients(self, micro_batches: list[Windows]) -> Tensor:
        """The loss of all processes together. Afterwards the gradients are those of all their micro-batches."""
        loss, world = torch.zeros((), device=self.device), self.parts.world
        for tokens, targets in micro_batches:
            with self.autocast:
                part = self.parts.module(tokens, targets, self.total)
            scaled = self.scaler.scale(part)
            (scaled * world.size if self.sharded else scaled).backward()  # FSDP2 takes the mean over the processes
            loss += part.detach()
        if self.sharded:
            return world.sum(loss)
        return distributed.sum_gradients(loss, self.trained, world)

    def forget_gradients(self) -> None:
        """Free the gradients."""
        for p in self.trained:
            p.grad = None


class CapturedStep(EagerStep):
    """The step whose body is replayed from buffers that do not move; nothing waits for the GPU.

    All batches must have the shape of the first (`Batches.padded`). If recording fails in any process, one line says so and
    the steps are eager ones.
    """

    def __init__(self, parts: StepParts, record: Recorder) -> None:
        super().__init__(parts)
        self.record = record
        self.buffers: list[Windows] = []
        self.replay: ReplayFn | None = None  # the recorded body; None before the first step, and if it could not be recorded
        self.failed = False  # whether recording failed

    def __call__(self, batch: Batch) -> Tensor:
        """Take the step."""
        if self.replay is None and not self.failed:
            self.capture(batch)
        if self.replay is None:
            with self.parts.net.uncompiled():
                return super().__call__(batch)
        for buffers, micro_batch in zip(self.buffers, batch.micro_batches, strict=True):
            for buffer, part in zip(buffers, micro_batch, strict=True):
                buffer.copy_(pinned(part, self.device), non_blocking=True)
        self.prepare(batch)
        self.replay()
        return self.result.clone()

    def capture(self, batch: Batch) -> None:
        """Record the body, which runs a few times for it.

        Divided by a total of 0 targets no loss is finite, so none of these steps changes a weight or a moment.
        """
        scale = self.scaler.state_dict()
        self.buffers = [to_device(micro_batch, self.device) for micro_batch in batch.micro_batches]
        self.total.zero_()
        reason = ""
        try:
            self.replay = self.record(partial(self.body, self.buffers))
        except CaptureFailed as error:
            reason = str(error)
        [self.failed] = self.parts.world.any(bool(reason))
        if self.failed:
            self.replay, self.buffers = None, []
            # a GradScaler that was interrupted refuses to unscale again
            self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.scaler.is_enabled())
            self.forget_gradients()
            advice = ". To capture it uncompiled, set compile to false" if self.parts.net.compiled else ""
            tqdm.write(
                f"warning: the training step could not be captured ({reason or 'in another process'}); training continues with "
                f"eager steps, which are slower on a GPU{advice}",
                file=sys.stderr,
            )
        self.scaler.load_state_dict(scale)


def make_step(
    params: TrainParams, net: GPT2, precision: str, world: World, steps: int, record: Recorder | None = None
) -> EagerStep:
    """The step that suits the device: captured on GPUs with a whole network each, else eager.

    Compiling must pay within the training's `steps`; `record` makes the step a captured one on any device.
    """
    device = net.wte.weight.device
    tokens = params.batch_size * params.grad_accumulation * params.block_size
    if machine.compiles(params.compile, device.type, net.config, tokens, steps):
        net.compile_parts()
    module = distributed.distribute(net, world, params.sharding)
    controls = Controls.on(device)
    optimizers = make_optimizers(net, params.optimizer, params.weight_decay, controls, DTYPES[precision])
    parts = StepParts(net, module, controls, optimizers, world, precision, params.seed, params.grad_clip)
    if record is None and device.type == "cuda" and not distributed.is_sharded(net):
        record = cuda_graph(device)
    return EagerStep(parts) if record is None else CapturedStep(parts, record)


def to_device(micro_batch: Windows, device: torch.device) -> Windows:
    """A micro-batch on the device; on a GPU the copy may still be running."""
    tokens, targets = (pinned(part, device).to(device, non_blocking=True, copy=True) for part in micro_batch)
    return tokens, targets


def pinned(part: Tensor, device: torch.device) -> Tensor:
    """The tensor in pinned memory, from which a GPU copies without the CPU."""
    return part.pin_memory() if device.type == "cuda" else part


def divergence_advice(parts: StepParts) -> str:
    """What helps a training that diverged."""
    options = ["Lower learning_rate (half of it is a good start)", "raise warmup_steps"]
    options += ["set grad_clip to 1.0"] if parts.clip == 0.0 else []
    options += ["set precision to fp32"] if parts.precision != "fp32" else []
    return f"{', '.join(options[:-1])} or {options[-1]}"
