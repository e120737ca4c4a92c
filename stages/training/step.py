"""Step: how the weights change. One interface, two implementations; each gives the same bytes in every run.

*Eager* runs the operations one by one: for CPUs, DDP and FSDP2. *Captured* is for one GPU, where a small network's step takes
as long as the CPU needs to launch its hundreds of kernels: it records the whole step once, as a CUDA graph over static buffers,
and replays it. What changes from step to step is in those buffers (windows, number of targets, learning rate) or in the
generator's seed.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from tqdm import tqdm

from model import GPT2Config
from stages.compute.cuda_graph import ReplayFn, cuda_graph
from stages.training import distributed
from stages.training.batches import seed_step
from stages.training.distributed import World
from stages.training.optimizer import set_learning_rate

Micro = tuple[Tensor, Tensor]  # tokens and targets, (n, T) int64 each
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
COMPILED_FROM = (8, 0)  # compute capability; older GPUs compute the attention by hand, which is not compiled
# measured on an H200: what compiling costs once, and what it saves per step for each block and for each of its activations
SECONDS_TO_COMPILE, SECONDS_A_BLOCK, SECONDS_AN_ACTIVATION = 12.0, 50e-6, 0.2e-9


@dataclass(frozen=True)
class Batch:
    """What one optimizer step works on.

    Attributes:
        number: of the step; 0 is the first.
        micros: this process's micro-batches, on the CPU.
        total: targets in it, over all processes.
        rate: the learning rate.
    """

    number: int
    micros: list[Micro]
    total: int
    rate: float


class Step:
    """One optimizer step: called with a batch, it returns the loss (nats per token) and the gradient norm before clipping.

    The result is a (2,) float32 tensor on the device; only reading it waits for a GPU. A step whose loss or norm is not
    finite changes nothing.

    Args:
        module: the network's loss, see `distributed.Loss`.
        optimizers: see `make_optimizers`.
        precision: `fp32`, `bf16`, or `fp16`, whose loss is scaled so that small gradients do not become 0.
        world: the processes.
        seed: of dropout.
        clip: the largest norm; 0 = no limit.

    Attributes:
        scaler: the scale of the loss and how it changes; enabled in fp16 only.
    """

    def __init__(
        self, module: nn.Module, optimizers: list[Optimizer], precision: str, world: World, seed: int, clip: float
    ) -> None:
        self.module, self.optimizers, self.world, self.seed, self.clip = module, optimizers, world, seed, clip
        self.trained = [p for p in module.parameters() if p.requires_grad]
        self.device = self.trained[0].device
        kind = self.device.type
        self.autocast = torch.autocast(kind, DTYPES.get(precision, torch.bfloat16), enabled=precision in DTYPES)
        self.scaler = _scaler(self.device, precision == "fp16")

    def __call__(self, batch: Batch) -> Tensor:
        """Take the step."""
        raise NotImplementedError

    def _accumulate(self, micros: list[Micro], total: int | Tensor) -> Tensor:
        """Loss of the micro-batches; their gradients are added."""
        loss = torch.zeros((), device=self.device)
        for index, (tokens, targets) in enumerate(micros):
            last = index == len(micros) - 1
            with nullcontext() if last else distributed.apart(self.module):
                with self.autocast:
                    part = self.module(tokens, targets, total)
                distributed.backward(self.scaler.scale(part), self.world)
            loss += part.detach()
        return loss

    def _gradients(self) -> list[Tensor]:
        """The gradients, at their true size."""
        for optimizer in self.optimizers:
            self.scaler.unscale_(optimizer)
        return [p.grad for p in self.trained if p.grad is not None]

    def _forget_gradients(self) -> None:
        self.scaler.update()
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)


class EagerStep(Step):
    """One operation after the other; a loss or norm that is not finite is found at once."""

    def __call__(self, batch: Batch) -> Tensor:
        set_learning_rate(self.optimizers, batch.rate)
        seed_step(self.seed, batch.number, self.world.rank)
        micros = _on_device(batch, self.device)
        total = batch.total if self.device.type == "cpu" else torch.full((), batch.total, device=self.device)
        loss = self.world.sum(self._accumulate(micros, total))
        gradients = self._gradients()
        norm = distributed.gradient_norm(gradients)
        if math.isfinite(float(loss)) and math.isfinite(float(norm)):
            if 0.0 < self.clip < float(norm):
                torch._foreach_mul_(gradients, self.clip / float(norm))
            for optimizer in self.optimizers:
                optimizer.step()
        self._forget_gradients()
        return torch.stack([loss, norm])


class CapturedStep(Step):
    """The same operations at each step, recorded once for each shape of a batch, and replayed; nothing waits for the GPU.

    The smaller batch at an epoch's end is another shape. Recording runs the step a few times and then puts weights, moments and
    scale back. If it fails, one line says so and all steps are eager ones from then on.

    Args:
        whole: windows of a full batch.
        compiled: use the network's compiled parts for full batches; smaller ones are too rare to pay for it.
        record: runs a function a few times and returns a function that repeats it: `cuda_graph`, or a test's own.

    The optimizers must be static ones.
    """

    def __init__(
        self, *args: Any, whole: int, compiled: bool = False, record: Callable[[ReplayFn], ReplayFn] | None = None
    ) -> None:
        super().__init__(*args)
        self.whole, self.compiled = whole, compiled
        self.record = record or cuda_graph(self.device)
        self.total = torch.zeros((), dtype=torch.int64, device=self.device)
        self.found_inf = torch.zeros((), device=self.device)  # 1.0: this step changes nothing
        self.result = torch.zeros(2, device=self.device)
        self.recorded: dict[tuple[torch.Size, ...], tuple[list[Micro], ReplayFn]] = {}
        self.eager: EagerStep | None = None
        self._args = args
        for optimizer in self.optimizers:
            optimizer.found_inf = self.found_inf  # type: ignore[attr-defined]

    def __call__(self, batch: Batch) -> Tensor:
        shape = tuple(tokens.shape for tokens, _ in batch.micros)
        set_learning_rate(self.optimizers, batch.rate)
        self.total.fill_(batch.total)
        if self.eager is None and shape not in self.recorded:
            self._prepare(batch, shape)
        if self.eager is not None:
            return self.eager(batch)
        inputs, replay = self.recorded[shape]
        for static, micro in zip(inputs, batch.micros, strict=True):
            for place, part in zip(static, micro, strict=True):
                place.copy_(_pinned(part, self.device), non_blocking=True)
        seed_step(self.seed, batch.number, self.world.rank)
        replay()
        return self.result.clone()

    def _prepare(self, batch: Batch, shape: tuple[torch.Size, ...]) -> None:
        """Record the step for this shape: compiled; if that fails, uncompiled; if that fails too, all steps are eager."""
        whole = sum(size[0] for size in shape) == self.whole
        for compiled in [True, False] if self.compiled and whole else [False]:
            inputs = [(tokens.clone(), targets.clone()) for tokens, targets in _on_device(batch, self.device)]
            before = self._state()
            try:
                with uncompiled(self.compiled and not compiled):
                    self.recorded[shape] = inputs, self.record(partial(self._run, inputs))
                return
            except Exception as error:
                reason = (str(error).strip() or type(error).__name__).splitlines()[0]
                what, then = ("compiled", "it is captured as it is") if compiled else ("captured", "training goes on eagerly")
                tqdm.write(f"warning: the training step could not be {what} ({reason[:200]}); {then}", file=sys.stderr)
                self.recorded.clear()
                self.scaler = torch.amp.GradScaler(
                    self.device.type, enabled=self.scaler.is_enabled()
                )  # the old one stopped in the middle of a step
                _recover(self.device)
            finally:
                self._put_back(before)
        self.eager = EagerStep(*self._args)
        self.eager.scaler = self.scaler
        for optimizer in self.optimizers:  # an eager step does not use it
            optimizer.found_inf = torch.zeros_like(self.found_inf)  # type: ignore[attr-defined]

    def _run(self, inputs: list[Micro]) -> None:
        """The step, from buffers to buffers; nothing is decided on the CPU."""
        loss = self._accumulate(inputs, self.total)
        gradients = self._gradients()
        norm = distributed.gradient_norm(gradients)
        self.found_inf.copy_(~(loss.isfinite() & norm.isfinite()))
        if self.clip > 0.0:
            torch._foreach_mul_(gradients, (self.clip / norm.double()).clamp(max=1.0).float())
        for optimizer in self.optimizers:
            optimizer.step()
        self.result.copy_(torch.stack([loss, norm]))
        del gradients
        self._forget_gradients()

    def _state(self) -> dict[str, Any]:
        """Copies, on the CPU, of all that a step changes."""
        moments = [{p: _copies(state) for p, state in optimizer.state.items()} for optimizer in self.optimizers]
        return {"weights": [_copy(p) for p in self.trained], "moments": moments, "scaler": self.scaler.state_dict()}

    @torch.no_grad()
    def _put_back(self, before: dict[str, Any]) -> None:
        for p, weight in zip(self.trained, before["weights"], strict=True):
            p.copy_(weight)
            p.grad = None
        for optimizer, moments in zip(self.optimizers, before["moments"], strict=True):
            for owner, state in optimizer.state.items():
                for key, value in state.items():  # what did not exist before starts at 0
                    value.copy_(moments[owner][key]) if owner in moments else value.zero_()
        self.scaler.load_state_dict(before["scaler"])


def on_device(micro: Micro, device: torch.device) -> Micro:
    """A micro-batch on the device; on a GPU the copy may still be running."""
    tokens, targets = (_pinned(part, device).to(device, non_blocking=True) for part in micro)
    return tokens, targets


def _on_device(batch: Batch, device: torch.device) -> list[Micro]:
    return [on_device(micro, device) for micro in batch.micros]


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
    saved = config.n_layer * (SECONDS_A_BLOCK + SECONDS_AN_ACTIVATION * tokens * config.n_embd)
    return steps * saved > SECONDS_TO_COMPILE


def _scaler(device: torch.device, enabled: bool) -> torch.amp.GradScaler:
    return torch.amp.GradScaler(device.type, enabled=enabled)


def _pinned(part: Tensor, device: torch.device) -> Tensor:
    """The tensor in pinned memory, from which a GPU copies without the CPU."""
    return part.pin_memory() if device.type == "cuda" else part


def _copy(value: Tensor) -> Tensor:
    return value.detach().to("cpu", copy=True)


def _copies(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: _copy(value) for key, value in state.items()}


def _recover(device: torch.device) -> None:
    """After a failed capture: free its memory, and replace the random generator, which would wait for the capture's end."""
    if device.type == "cuda":
        with suppress(Exception):
            fresh = torch.Generator(device).graphsafe_get_state()
            torch.cuda.default_generators[device.index or 0].graphsafe_set_state(fresh)
        with suppress(RuntimeError):
            torch.cuda.synchronize(device)
            torch.cuda.empty_cache()
