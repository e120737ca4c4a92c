"""The trainer: the loop that takes steps, checks, evaluates, logs and saves. `step` has how a step changes the weights.

Everything that a step needs is a function of its number (`batches`, `schedule`, `seed_step`), so the loop's whole state is the
weights, the optimizer's moments, the step and the history. A checkpoint holds just these.
"""

from __future__ import annotations

import math
import re
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
from stages.common.params import TrainParams
from stages.common.progress import bar
from stages.training import distributed
from stages.training.batches import Batches, Stream, read_windows
from stages.training.checkpoint import Checkpoints, State
from stages.training.distributed import World, distribute
from stages.training.history import History, Mean, Row
from stages.training.optimizer import make_optimizers
from stages.training.schedule import learning_rate
from stages.training.signals import Stop
from stages.training.step import Batch, CapturedStep, EagerStep, Step, compiles, on_device, uncompiled

ROWS = 1_000  # rows of the history at most: longer trainings average over more steps a row
VALIDATION_WINDOWS = 128  # evaluated during training, evenly spaced; the stage evaluate takes the whole split
UNREAD = 20  # most steps whose results are not read yet: reading waits for the GPU
SKIPS = 30  # steps in a row that fp16 may skip: each halves the loss scale, and after 30 it is practically 0


class Stopped(Exception):
    """The training was asked to stop and has saved itself. The exception's text is the signal's name."""


class Trainer:
    """One training, from the first step or from a checkpoint to the last.

    Args:
        params: the stage's.
        net: the network, on its device.
        train: the training stream.
        validation: the validation stream.
        precision: `bf16` or `fp16` (autocast), or `fp32`.
        world: the processes.
        checkpoints: where to save.
        log: called by rank 0 with a step and its metrics.
        write_samples: called by rank 0 before the first step and after each evaluation, with the step and the network; it
            returns the texts that the network writes, and must not touch any generator.

    Attributes:
        step: optimizer steps taken.
        history: what they measured, up to the last one that was read.
        resumed: tokens that were trained on before this process started.
    """

    def __init__(
        self,
        params: TrainParams,
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
        self.batches = Batches(
            train, params.block_size, params.stride, params.batch_size, params.grad_accumulation, params.seed
        )
        self.steps_per_epoch = self.batches.steps_per_epoch
        self.steps = self.steps_per_epoch * params.epochs
        windows = params.batch_size * params.grad_accumulation
        self.compiled = compiles(params.compile, self.device.type, net.config, windows * params.block_size, self.steps)
        self.module = distribute(net, world, params.sharding, self.compiled)
        static = self.device.type == "cuda" and world.size == 1
        self.optimizers = make_optimizers(
            net, params.optimizer, params.learning_rate, params.weight_decay, precision, static=static
        )
        make = (self.module, self.optimizers, precision, world, params.seed, params.grad_clip)
        self.take: Step = CapturedStep(*make, whole=windows, compiled=self.compiled) if static else EagerStep(*make)
        self.unread: list[tuple[int, Tensor]] = []  # of each step: its targets, and its loss and norm on the device
        self.validation = _evenly(validation, params.block_size, VALIDATION_WINDOWS)
        self.step, self.resumed, self.history = 0, 0, History()
        self._skips = 0  # in a row
        self._pace = ""
        self._tick = 0.0, 0  # when the speed was measured last, and the tokens then

    @property
    def tokens(self) -> int:
        """Targets trained on."""
        return self.history.tokens

    def fit(self, stop: Stop) -> None:
        """Train to the end.

        Raises:
            Stopped: `stop` was asked; a checkpoint is saved.
            UserError: a loss or gradient is not finite, or memory ran out.
        """
        if not self._restore():
            self._show_samples()  # what a network writes that has learned nothing
        self.module.train()
        with (
            ThreadPoolExecutor(1) as reader,
            bar(self.steps, "train", "step", initial=self.step, disable=not self.world.main) as progress,
        ):
            ahead: Future[Batch] | None = None
            self._start_clock()
            while self.step < self.steps:
                batch = ahead.result() if ahead else self.read(self.step)
                following = self.step + 1
                ahead = reader.submit(self.read, following) if following < self.steps else None
                self.train(batch)
                progress.update()

                epoch_ends = self.step % self.steps_per_epoch == 0
                asked = self.params.eval_every and self.step % self.params.eval_every == 0
                if self.device.type == "cpu" or len(self.unread) >= UNREAD or self.step == self.steps or asked or epoch_ends:
                    progress.set_postfix_str(self.settle(), refresh=False)
                if asked or epoch_ends:
                    self._evaluate(epoch_ends, progress)
                    self._start_clock()  # the speed is the training's alone
                if self.world.any(stop.signal_name is not None):
                    self.settle()
                    self._save()
                    raise Stopped(stop.signal_name or "another process")
                if self.step % self.params.checkpoint_every == 0 and self.step < self.steps:
                    self.settle()
                    self._save()
                    self._start_clock()

    def read(self, step: int) -> Batch:
        """This process's part of a step's windows."""
        starts = self.batches.starts(step)
        shares = self.batches.share(starts, self.world.rank, self.world.size)
        micros = [_tensors(*self.batches.read(mine)) for mine in shares]
        return Batch(step, micros, self.batches.scored(starts), self.learning_rate(step))

    def train(self, batch: Batch) -> None:
        """Take a step; what it measured is read later.

        Raises:
            UserError: memory ran out.
        """
        try:
            self.unread.append((batch.total, self.take(batch)))
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if (advice := _out_of_memory(error, self.params, self.device)) is None:
                raise
            raise UserError(advice) from error
        self.step += 1

    def learning_rate(self, step: int) -> float:
        """The rate of a step; 0 is the first."""
        p = self.params
        return learning_rate(step, self.steps, p.learning_rate, p.min_learning_rate, p.warmup_steps)

    def _start_clock(self) -> None:
        self._tick = time.perf_counter(), self.tokens

    def settle(self) -> str:
        """Read what the steps since the last time measured, check it, and write the rows of the history that are due.

        Returns:
            loss and speed, for the progress bar.

        Raises:
            UserError: a loss or gradient is not finite. Its step and those after it are not part of any checkpoint.
        """
        if not self.unread:
            return self._pace
        values = torch.stack([result for _, result in self.unread]).tolist()  # waits for the device
        totals = [total for total, _ in self.unread]
        self.unread.clear()
        (then, tokens), now = self._tick, time.perf_counter()
        speed = (self.tokens + sum(totals) - tokens) / (now - then)
        every = max(1, self.steps // ROWS)
        rows = len(self.history.training)
        for step, total, (loss, norm) in zip(range(self.step - len(values) + 1, self.step + 1), totals, values, strict=True):
            self._check(step, loss, norm)
            self.history.add(loss, total)
            if step % every == 0 or step == self.steps:
                self._row(step, speed)
        if len(self.history.training) > rows:
            self._tick = now, self.tokens
            self._pace = f"loss {self.history.training[-1]['train_loss']:.3f}, {speed:,.0f} tokens/s"
        return self._pace

    def _check(self, step: int, loss: float, norm: float) -> None:
        """Whether the training is sound after this step. In fp16 a step may be skipped; the loss's scale is halved then."""
        if math.isfinite(loss) and math.isfinite(norm):
            self.history.norm, self._skips = norm, 0
            return
        self._skips += 1
        if not (self.take.scaler.is_enabled() and math.isfinite(loss) and self._skips < SKIPS):
            raise UserError(self._not_finite(step, loss, norm))
        self.history.skipped += 1

    def _row(self, step: int, speed: float) -> None:
        """Close the interval: one row of the history."""
        row: Row = {
            "step": step,
            "tokens": self.tokens,
            "epoch": step / self.steps_per_epoch,
            "train_loss": self.history.since_row.take(),
            "learning_rate": self.learning_rate(step - 1),  # of the step just done
            "grad_norm": self.history.norm,
        }
        self.history.training.append(row)
        if self.world.main:
            values = {key: value for key, value in row.items() if key not in ("step", "tokens")}
            if self.take.scaler.is_enabled():
                values["skipped_steps"] = self.history.skipped
            self.log(step, values | {"tokens_per_second": speed})

    def _evaluate(self, epoch_ends: bool, progress: Any) -> None:
        """Validation loss on the same windows each time; it draws no random number, so the training stays as it was."""
        val_loss, epochs = self.validation_loss(), self.step / self.steps_per_epoch
        self.history.validation.append({"step": self.step, "epoch": epochs, "val_loss": val_loss})
        if epoch_ends:
            epoch, train_loss = round(epochs), self.history.since_epoch.take()
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
        losses, counts = [], []
        size = self.params.batch_size
        for first in range(0, len(self.validation[0]), size):
            tokens, targets = _tensors(*(part[first : first + size] for part in self.validation))
            counts.append(int((targets >= 0).sum()))
            with self.take.autocast, uncompiled(self.compiled):
                losses.append(self.module(*on_device((tokens, targets), self.device), counts[-1]))
        self.module.train()
        mean = Mean()
        for loss, count in zip(torch.stack(losses).tolist(), counts, strict=True):
            mean.add(loss, count)
        return mean.take()

    def _save(self) -> None:
        state = State(self.step, self.history.as_json(), self.take.scaler.state_dict())
        self.checkpoints.save(state, self.net, self.optimizers)

    def _restore(self) -> bool:
        """Go on from the newest checkpoint; False if there is none."""
        state = self.checkpoints.restore(self.net, self.optimizers)
        if state is None:
            return False
        self.step, self.history = state.step, History.from_json(state.history)
        self.resumed = self.tokens
        self.take.scaler.load_state_dict(state.scaler)
        if self.world.main:
            print(f"going on from step {self.step} of {self.steps}, where the training was interrupted")
        return True

    def _not_finite(self, step: int, loss: float, norm: float) -> str:
        windows = ", ".join(str(start // self.params.stride) for start in self.batches.starts(step - 1)[:16])
        return (
            f"training diverged at step {step}: loss {loss}, gradient norm {norm}, learning rate "
            f"{self.learning_rate(step - 1):g} (training windows {windows}). The last good checkpoint is kept. "
            f"Lower learning_rate (half of it is a good start), raise warmup_steps, or set precision to fp32"
        )


def _tensors(tokens: NDArray[np.int64], targets: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(tokens), torch.from_numpy(targets)


def _evenly(stream: Stream, block_size: int, most: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """At most `most` windows, evenly spaced over the stream."""
    count = max(1, math.ceil((len(stream) - 1) / block_size))
    chosen = np.unique(np.linspace(0, count - 1, min(most, count)).round().astype(np.int64))
    return read_windows(stream, chosen * block_size, block_size)


def _out_of_memory(error: Exception, params: TrainParams, device: torch.device) -> str | None:
    """What to lower, and by how much, with the numbers; None if the error is of another kind."""
    if not isinstance(error, (torch.OutOfMemoryError, MemoryError)) and "memory" not in str(error).lower():
        return None
    wanted = re.search(r"tried to allocate ([\d.]+ ?\w+)", str(error), re.IGNORECASE)
    numbers = [f"{wanted[1]} more wanted"] if wanted else []
    if device.type == "cuda":
        used, whole = torch.cuda.memory_allocated(device), torch.cuda.get_device_properties(device).total_memory
        numbers.append(f"{used / 2**30:.2f} GiB in use of {whole / 2**30:.2f} GiB")
    known = f" ({', '.join(numbers)})" if numbers else ""
    if params.batch_size > 1:
        half = (params.batch_size + 1) // 2
        advice = (
            f"lower batch_size from {params.batch_size} to {half} and raise grad_accumulation from {params.grad_accumulation} "
            f"to {params.grad_accumulation * 2}: the same training in about half the memory"
        )
    else:
        advice = f"lower block_size from {params.block_size} to {max(1, params.block_size // 2)}, or n_embd or n_layer"
    return f"out of memory in a training step{known}: {advice}"
