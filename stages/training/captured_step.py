"""The captured step: the eager step's body, recorded once as a CUDA graph and replayed.

On a GPU a small network's step takes as long as the CPU needs to launch its hundreds of kernels; a replay is one launch.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from functools import partial

import torch
from torch import Tensor
from tqdm import tqdm

from model import GPT2
from stages.common.params import TrainParams
from stages.compute.cuda_graph import Recorder, ReplayFn, cuda_graph
from stages.compute.machine import DTYPES
from stages.training.distributed import World, distribute
from stages.training.optimizer import Controls, make_optimizers
from stages.training.step import Batch, EagerStep, MicroBatch, StepParts, compiles, pinned, to_device, uncompiled


class CapturedStep(EagerStep):
    """The step whose body is replayed from buffers that do not move; nothing waits for the GPU.

    All batches must have the shape of the first (`Batches.padded`). If recording fails, one line says so and the steps are
    eager ones.

    Args:
        parts: of the step; the optimizers leave everything as it is where `found_inf` is not 0.
        record: runs a function a few times and returns one that repeats it, see `cuda_graph`.

    Attributes:
        replay: the recorded body; None before the first step, and if it could not be recorded.
        failed: whether recording failed.
    """

    def __init__(self, parts: StepParts, record: Recorder) -> None:
        super().__init__(parts)
        self.record = record
        self.buffers: list[MicroBatch] = []
        self.replay: ReplayFn | None = None
        self.failed = False

    def __call__(self, batch: Batch) -> Tensor:
        """Take the step."""
        if self.replay is None and not self.failed:
            self.capture(batch)
        if self.replay is None:
            with uncompiled(self.parts.compiled):
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
        try:
            self.replay = self.record(partial(self.body, self.buffers))
        except Exception as error:
            self.failed = True
            self.buffers = []
            self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.scaler.is_enabled())  # the old one is mid-step
            self.forget_gradients()
            _recover(self.device)
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            advice = ". To capture it uncompiled, set compile to false" if self.parts.compiled else ""
            tqdm.write(
                f"warning: the training step could not be captured ({reason[:200]}); training goes on with eager "
                f"steps, which are slower on a GPU{advice}",
                file=sys.stderr,
            )
        self.scaler.load_state_dict(scale)


def make_step(
    params: TrainParams, net: GPT2, precision: str, world: World, steps: int, record: Recorder | None = None
) -> EagerStep:
    """The step that suits the device: captured on one GPU, else eager.

    Args:
        params: of the training.
        net: on its device.
        precision: `bf16` or `fp16` (autocast), or `fp32`.
        world: the processes.
        steps: of the training; compiling must pay within them.
        record: makes the step a captured one on any device.
    """
    device = net.wte.weight.device
    tokens = params.batch_size * params.grad_accumulation * params.block_size
    compiled = compiles(params.compile, device.type, net.config, tokens, steps)
    module = distribute(net, world, params.sharding, compiled)
    controls = Controls.on(device)
    optimizers = make_optimizers(net, params.optimizer, params.weight_decay, controls, DTYPES[precision])
    parts = StepParts(net, module, compiled, controls, optimizers, world, precision, params.seed, params.grad_clip)
    if record is None and device.type == "cuda" and world.size == 1:
        record = cuda_graph(device)
    return EagerStep(parts) if record is None else CapturedStep(parts, record)


def _recover(device: torch.device) -> None:
    """After a failed capture: free its memory, and replace the random generator, which would wait for the capture's end."""
    if device.type == "cuda":
        with suppress(Exception):
            fresh = torch.Generator(device).graphsafe_get_state()
            torch.cuda.default_generators[device.index or 0].graphsafe_set_state(fresh)
        with suppress(RuntimeError):
            torch.cuda.synchronize(device)
            torch.cuda.empty_cache()
