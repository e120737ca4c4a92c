"""The trainer: the loop that accumulates, clips, steps, checks, evaluates and saves.

Everything that a step needs is a function of its number (`batches`, `schedule`, `seed_step`), so the loop's whole state is the
weights, the optimizer's moments, the step and the history: what a checkpoint holds.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model import GPT2
from stages.common.errors import UserError
from stages.common.params import Params
from stages.common.progress import bar
from stages.training import distributed
from stages.training.batches import Batches, Indices, Stream, read_windows, seed_step
from stages.training.checkpoint import Checkpoints, State
from stages.training.distributed import World, distribute
from stages.training.history import History, Row
from stages.training.optimizer import make_optimizers, set_learning_rate
from stages.training.schedule import learning_rate
from stages.training.signals import Stop

ROWS = 1_000  # rows of the history at most: longer trainings average over more steps a row
VALIDATION_WINDOWS = 128  # evaluated during training, evenly spaced; the stage evaluate takes the whole split

Micro = tuple[Tensor, Tensor]


class Stopped(Exception):
    """Somebody asked the training to stop; it saved itself first. Its text is the signal's name."""


class Trainer:
    """One training, from the first step or from a checkpoint to the last.

    Args:
        params: all of them.
        net: the network, on its device.
        train: the training stream.
        validation: the validation stream.
        precision: `bf16` (autocast) or `fp32`.
        world: the processes.
        checkpoints: where to save.
        log: called by rank 0 with a step and its metrics.
        write_samples: called by rank 0 before the first step and after each evaluation, with the step and the network; it
            returns the texts that the network writes, and must not touch any generator.
    """

    def __init__(
        self,
        params: Params,
        net: GPT2,
        train: Stream,
        validation: Stream,
        precision: str,
        world: World,
        checkpoints: Checkpoints,
        log: Callable[[int, Mapping[str, float]], None] = lambda step, metrics: None,
        write_samples: Callable[[int, GPT2], list[str]] = lambda step, net: [],
    ) -> None:
        self.params, self.net, self.world, self.checkpoints = params, net, world, checkpoints
        self.log, self.write_samples = log, write_samples
        self.device = net.wte.weight.device
        self.autocast = torch.autocast(self.device.type, torch.bfloat16, enabled=precision == "bf16")
        self.module = distribute(net, world, params.sharding, params.compile)
        self.optimizers = make_optimizers(net, params.optimizer, params.learning_rate, params.weight_decay, precision)
        self.trained = [p for p in net.parameters() if p.requires_grad]
        self.batches = Batches(
            train, params.block_size, params.stride, params.batch_size, params.grad_accumulation, params.seed
        )
        self.steps_per_epoch = self.batches.steps_per_epoch
        self.steps = self.steps_per_epoch * params.epochs
        self.validation = _evenly(validation, params.block_size, VALIDATION_WINDOWS)
        self.step = 0  # optimizer steps done
        self.tokens = 0  # targets trained on
        self.history = History()

    def fit(self, stop: Stop) -> None:
        """Train to the end.

        Raises:
            Stopped: `stop` was asked; a checkpoint is saved.
            UserError: a loss or gradient is not finite, or memory ran out.
        """
        if not self._restore():
            self._show_samples()  # what a network writes that has learned nothing
        every = max(1, self.steps // ROWS)
        self.module.train()
        with (
            ThreadPoolExecutor(1) as reader,
            bar(self.steps, "train", "step", initial=self.step, disable=not self.world.main) as progress,
        ):
            ahead: Future[list[Micro]] | None = None
            tick, ticked = time.perf_counter(), self.tokens
            while self.step < self.steps:
                starts = self.batches.starts(self.step)
                micros = ahead.result() if ahead else self.read(starts)
                following = self.step + 1
                ahead = reader.submit(self.read, self.batches.starts(following)) if following < self.steps else None
                total = self.batches.scored(starts)
                try:
                    loss, norm = self.train_step(micros, total)
                except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
                    if (advice := _out_of_memory(error, self.params)) is None:
                        raise
                    raise UserError(advice) from error
                if not (math.isfinite(loss) and math.isfinite(norm)):
                    raise UserError(self._not_finite(loss, norm, starts))
                self.step, self.tokens = self.step + 1, self.tokens + total
                self.history.add(loss, total)
                progress.update()

                epoch_ends = self.step % self.steps_per_epoch == 0
                if self.step % every == 0 or self.step == self.steps:
                    now = time.perf_counter()
                    speed = (self.tokens - ticked) / (now - tick)
                    tick, ticked = now, self.tokens
                    self._row(norm, speed)
                    progress.set_postfix_str(self._pace(speed), refresh=False)
                asked = self.params.eval_every and self.step % self.params.eval_every == 0
                if asked or epoch_ends:
                    self._evaluate(epoch_ends, progress)
                    tick, ticked = time.perf_counter(), self.tokens  # the speed is the training's alone
                if self.world.any(stop.signal_name is not None):
                    self._save()
                    raise Stopped(stop.signal_name or "another process")
                if self.step % self.params.checkpoint_every == 0 and self.step < self.steps:
                    self._save()
                    tick, ticked = time.perf_counter(), self.tokens

    def read(self, starts: Indices) -> list[Micro]:
        """This process's micro-batches of a step, on their way to the device."""
        return [
            self._to_device(*self.batches.read(mine)) for mine in self.batches.share(starts, self.world.rank, self.world.size)
        ]

    def _to_device(self, tokens: NDArray[np.int64], targets: NDArray[np.int64]) -> Micro:
        pair = torch.from_numpy(tokens), torch.from_numpy(targets)
        if self.device.type != "cuda":
            return pair
        return tuple(part.pin_memory().to(self.device, non_blocking=True) for part in pair)  # type: ignore[return-value]

    def train_step(self, micros: list[Micro], total: int) -> tuple[float, float]:
        """One optimizer step over `total` targets: mean loss in nats per token, gradient norm before clipping.

        Nothing is changed where one of the two is not finite.
        """
        set_learning_rate(self.optimizers, self.learning_rate(self.step))
        seed_step(self.params.seed, self.step, self.world.rank)
        loss = torch.zeros((), device=self.device)
        for index, (tokens, targets) in enumerate(micros):
            last = index == len(micros) - 1
            with contextlib.nullcontext() if last else distributed.apart(self.module):
                with self.autocast:
                    part = self.module(tokens, targets, total)
                distributed.backward(part, self.world)
            loss += part.detach()
        norm = distributed.gradient_norm([p.grad for p in self.trained if p.grad is not None])
        values = float(self.world.sum(loss)), float(norm)
        if all(map(math.isfinite, values)):
            if 0.0 < self.params.grad_clip < values[1]:
                torch._foreach_mul_([p.grad for p in self.trained if p.grad is not None], self.params.grad_clip / values[1])
            for optimizer in self.optimizers:
                optimizer.step()
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        return values

    def learning_rate(self, step: int) -> float:
        """The rate of a step; 0 is the first."""
        p = self.params
        return learning_rate(step, self.steps, p.learning_rate, p.min_learning_rate, p.warmup_steps)

    @property
    def epoch(self) -> float:
        """Epochs done."""
        return self.step / self.steps_per_epoch

    def _row(self, norm: float, speed: float) -> None:
        """Close the interval: one row of the history."""
        row: Row = {
            "step": self.step,
            "tokens": self.tokens,
            "epoch": self.epoch,
            "train_loss": self.history.since_row.take(),
            "learning_rate": self.learning_rate(self.step - 1),  # of the step just done
            "grad_norm": norm,
        }
        self.history.training.append(row)
        if self.world.main:
            values = {key: value for key, value in row.items() if key not in ("step", "tokens")}
            self.log(self.step, values | {"tokens_per_second": speed})

    def _pace(self, speed: float) -> str:
        return f"loss {self.history.training[-1]['train_loss']:.3f}, {speed:,.0f} tokens/s"

    def _evaluate(self, epoch_ends: bool, progress: Any) -> None:
        """Validation loss on the same windows each time; it draws no random number, so the training stays as it was."""
        val_loss = self.validation_loss()
        self.history.validation.append({"step": self.step, "epoch": self.epoch, "val_loss": val_loss})
        if epoch_ends:
            epoch, train_loss = round(self.epoch), self.history.since_epoch.take()
            self.history.epochs.append({"epoch": epoch, "train_loss": train_loss, "val_loss": val_loss})
            if self.world.main:
                progress.write(
                    f"epoch {epoch}/{self.params.epochs}: train loss {train_loss:.4f}, validation loss {val_loss:.4f}"
                )
        if self.world.main:
            self.log(self.step, {"val_loss": val_loss})
        self._show_samples()

    def _show_samples(self) -> None:
        """Let the network write, as it is now. With FSDP2 no process has the whole network: then it does not."""
        if self.world.main and distributed.is_whole(self.net):
            self.history.samples.append({"step": self.step, "texts": self.write_samples(self.step, self.net)})

    @torch.no_grad()
    def validation_loss(self) -> float:
        """Mean nats per token over the validation windows, shared out among the processes."""
        self.module.eval()
        sums = torch.zeros(2, dtype=torch.float64)
        size = self.params.batch_size
        for first in range(0, len(self.validation[0]), size):
            tokens, targets = self._to_device(*(part[first : first + size] for part in self.validation))
            scored = int((targets >= 0).sum())
            with self.autocast:
                loss = self.module(tokens, targets, scored)
            sums += torch.tensor([float(loss) * scored, scored], dtype=torch.float64)
        self.module.train()
        return float(sums[0] / sums[1])

    def _save(self) -> None:
        state = State(self.step, {"tokens": self.tokens, **self.history.as_json()})
        self.checkpoints.save(state, self.net, self.optimizers)

    def _restore(self) -> bool:
        """Go on from the newest checkpoint; False if there is none."""
        state = self.checkpoints.restore(self.net, self.optimizers)
        if state is None:
            return False
        history = dict(state.history)
        self.step, self.tokens = state.step, history.pop("tokens")
        self.history = History.from_json(history)
        if self.world.main:
            print(f"going on from step {self.step} of {self.steps}, where the training was interrupted")
        return True

    def _not_finite(self, loss: float, norm: float, starts: Indices) -> str:
        windows = ", ".join(str(start // self.params.stride) for start in starts[:16])
        return (
            f"training diverged at step {self.step + 1}: loss {loss}, gradient norm {norm}, learning rate "
            f"{self.learning_rate(self.step):g} (training windows {windows}). The last good checkpoint is kept. "
            f"Lower learning_rate (half of it is a good start), raise warmup_steps, or set precision to fp32"
        )


def _evenly(stream: Stream, block_size: int, most: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """At most `most` windows, evenly spaced over the stream."""
    count = max(1, math.ceil((len(stream) - 1) / block_size))
    chosen = np.unique(np.linspace(0, count - 1, min(most, count)).round().astype(np.int64))
    return read_windows(stream, chosen * block_size, block_size)


def _out_of_memory(error: Exception, params: Params) -> str | None:
    """What to lower, and by how much; None if the error is of another kind."""
    if not isinstance(error, (torch.OutOfMemoryError, MemoryError)) and "memory" not in str(error).lower():
        return None
    if params.batch_size > 1:
        half = (params.batch_size + 1) // 2
        advice = (
            f"lower batch_size from {params.batch_size} to {half} and raise grad_accumulation from {params.grad_accumulation} "
            f"to {params.grad_accumulation * 2}: the same training in about half the memory"
        )
    else:
        advice = f"lower block_size from {params.block_size} to {max(1, params.block_size // 2)}, or n_embd or n_layer"
    return f"out of memory in a training step: {advice}"
