"""The trainer: the loop that takes steps, checks, evaluates, logs and saves. How a step changes the weights is in `step`.

Everything that a step needs is a function of its number (`batches`, `schedule`, `seed_step`), so the loop's whole state is the
weights, the optimizer's moments, the step and the history. A checkpoint holds just these.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from model import GPT2
from model.loss import IGNORE
from stages.common.errors import UserError
from stages.common.progress import bar
from stages.compute.machine import enough_memory
from stages.training import distributed
from stages.training.batches import Batches, Windows
from stages.training.checkpoint import Checkpoints, State
from stages.training.history import History, Mean, Row
from stages.training.live_run import LiveRun
from stages.training.schedule import Schedule
from stages.training.signals import Stop
from stages.training.step import Batch, EagerStep, divergence_advice, to_device

MOST_PENDING = 20  # steps on a GPU whose results are not read yet: reading waits for the GPU
DIVERGED = 2.0  # times the loss of guessing: no training that learns is there after its first evaluation
SKIPS = 30  # steps in a row that fp16 may skip: each halves the loss scale, and after 30 it is practically 0


class Stopped(Exception):
    """The training was asked to stop and has saved itself. The exception's text is the signal's name."""


class Trainer:
    """One training, from the first step or from a checkpoint to the last.

    Args:
        training_step: takes a step; its parts are the network, the optimizers and the processes.
        batches: what the steps work on.
        schedule: the learning rate, and when to evaluate and save.
        validation: windows whose loss is measured during training.
        checkpoints: where to save.
        run: where rank 0 logs.
        write_samples: called by rank 0 before the first step and after each evaluation, with the network; it returns sample
            texts, and must not use the global generator.
        keeps_best: whether to keep the weights of the lowest validation loss.

    Attributes:
        step: optimizer steps taken.
        pending: those of them whose results (loss and gradient norm, on the device) are not read yet.
        history: what they measured, up to the last one that was read.
        best: the weights that are kept, on rank 0.
        resumed: tokens that were trained on before this process started.
        step_parts: what the step is made of.
    """

    def __init__(
        self,
        training_step: EagerStep,
        batches: Batches,
        schedule: Schedule,
        validation: Windows,
        checkpoints: Checkpoints,
        run: LiveRun,
        write_samples: Callable[[GPT2], list[str]],
        keeps_best: bool = False,
    ) -> None:
        self.training_step, self.batches, self.schedule, self.validation = training_step, batches, schedule, validation
        self.checkpoints, self.run, self.write_samples = checkpoints, run, write_samples
        self.step_parts, self.device = training_step.parts, training_step.device
        self.net, self.world = self.step_parts.net, self.step_parts.world
        self.step, self.resumed, self.history = 0, 0, History()
        self.pending: list[tuple[Batch, Tensor]] = []
        self.keeps_best, self.best = keeps_best, dict[str, Tensor]()
        self._skips = 0  # in a row
        self._progress_text = ""
        self._speed_since = 0.0, 0  # when the speed was measured last, and the tokens then

    def fit(self, stop: Stop) -> None:
        """Train to the end.

        Raises:
            Stopped: `stop` was asked; a checkpoint is saved.
            UserError: a loss or gradient is not finite, or memory ran out.
        """
        with enough_memory(self.device, self.batches.advice):
            self._fit(stop)
        self.checkpoints.wait()

    def _fit(self, stop: Stop) -> None:
        if not self._restore():
            if self.schedule.evaluates(0):
                self._evaluate(print)
            else:
                self._write_samples()  # what a network writes that has learned nothing
        self.step_parts.module.train()
        steps = self.schedule.steps
        with (
            ThreadPoolExecutor(1) as reader,
            bar(steps, "train", "step", initial=self.step, disable=not self.world.is_main) as progress,
        ):
            ahead: Future[Batch] | None = None
            self._start_clock()
            while self.step < steps:
                batch = ahead.result() if ahead else self.read(self.step)
                following = self.step + 1
                ahead = reader.submit(self.read, following) if following < steps else None
                self.take_step(batch)
                progress.update()

                if self._reads_results():
                    self.flush_metrics()
                    progress.set_postfix_str(self._progress_text, refresh=False)
                if self.schedule.evaluates(self.step):
                    self._evaluate(progress.write)
                    self._start_clock()  # the speed is the training's alone
                saves = self.checkpoints.due(self.step, self.schedule.checkpoint_every) and self.step < steps
                stops, saves = self.world.any(stop.signal_name is not None, saves)
                if stops or saves:
                    self.save()
                    self._start_clock()
                if stops:
                    self.checkpoints.wait()
                    raise Stopped(stop.signal_name or "another process")

    def read(self, step: int) -> Batch:
        """This process's part of a step's windows."""
        starts = self.batches.starts(step)
        parts = self.batches.split_for_rank(starts, self.world.rank, self.world.size)
        micro_batches = [self.batches.read(part, self.world.size) for part in parts]
        return Batch(step, micro_batches, self.batches.scored(starts), self.schedule.lr(step))

    def take_step(self, batch: Batch) -> None:
        """Take a step; what it measured is read later."""
        self.pending.append((batch, self.training_step(batch)))
        self.step += 1

    def _reads_results(self) -> bool:
        """Whether to read what the steps measured now: on a GPU only where something needs it, because reading waits."""
        needed = self.schedule.evaluates(self.step) or self.step == self.schedule.steps
        return needed or self.device.type == "cpu" or len(self.pending) >= MOST_PENDING

    def _start_clock(self) -> None:
        self._speed_since = time.perf_counter(), self.history.tokens

    def flush_metrics(self) -> None:
        """Read what the pending steps measured, check it, and write the rows of the history that are due.

        Raises:
            UserError: a loss or gradient is not finite. Its step and those after it are not part of any checkpoint.
        """
        if not self.pending:
            return
        taken, self.pending = self.pending, []
        results = torch.stack([result for _, result in taken]).tolist()  # waits for the device
        (then, tokens_then), now = self._speed_since, time.perf_counter()
        tokens_now = self.history.tokens + sum(batch.total for batch, _ in taken)
        speed = (tokens_now - tokens_then) / (now - then)
        for (batch, _), (loss, norm) in zip(taken, results, strict=True):
            self._check(batch, loss, norm)
            self.history.add(loss, norm, batch.total)
            if self.schedule.writes_row(batch.number + 1):
                self._write_row(batch, speed)
                self._speed_since = now, tokens_now

    def _check(self, batch: Batch, loss: float, norm: float) -> None:
        """Whether the training is sound after this step. In fp16 a step may be skipped; the loss's scale is halved then."""
        if math.isfinite(loss) and math.isfinite(norm):
            self._skips = 0
            return
        self._skips += 1
        if not (self.training_step.scaler.is_enabled() and math.isfinite(loss) and self._skips < SKIPS):
            raise UserError(self._not_finite(batch, loss, norm))

    def _write_row(self, batch: Batch, speed: float) -> None:
        """One row of the history: the steps since the last one, up to this batch's."""
        done = batch.number + 1
        row: Row = {
            "step": done,
            "tokens": self.history.tokens,
            "epoch": done / self.schedule.steps_per_epoch,
            "train_loss": self.history.since_row.pop(),
            "learning_rate": batch.lr,
            "grad_norm": self.history.grad_norm,
        }
        self.history.training.append(row)
        self._progress_text = f"loss {row['train_loss']:.3f}, {speed:,.0f} tokens/s"
        if self.world.is_main:
            values = {key: value for key, value in row.items() if key not in ("step", "tokens")}
            if self.training_step.scaler.is_enabled():
                values["skipped_steps"] = self.history.skipped
            self.run.log(done, values | {"tokens_per_second": speed})

    def _evaluate(self, say: Callable[[str], object]) -> None:
        """Validation loss on the same windows each time; it draws no random number, so the training stays as it was."""
        val_loss, epochs = self.validation_loss(), self.step / self.schedule.steps_per_epoch
        self.history.validation.append({"step": self.step, "epoch": epochs, "val_loss": val_loss})
        self._check_progress(val_loss)
        if self.schedule.ends_epoch(self.step):
            epoch, train_loss = round(epochs), self.history.since_epoch.pop()
            self.history.epochs.append({"epoch": epoch, "train_loss": train_loss, "val_loss": val_loss})
            if self.world.is_main:
                say(f"epoch {epoch}/{self.schedule.epochs}: train loss {train_loss:.4f}, validation loss {val_loss:.4f}")
        elif self.step == 0 and self.world.is_main:
            say(f"before the first step: validation loss {val_loss:.4f}")
        if self.world.is_main:
            self.run.log(self.step, {"val_loss": val_loss})
        if self.keeps_best and self.world.any(self.world.is_main and self.history.best["step"] == self.step)[0]:
            weights = {name: distributed.full_tensor(p).detach() for name, p in self.net.named_parameters()}
            self.best = {name: value.to("cpu", copy=True) for name, value in weights.items()} if self.world.is_main else {}
        self._write_samples()

    def _check_progress(self, val_loss: float) -> None:
        """Fail if the training loss is above twice that of guessing: with clipped gradients a huge loss can be finite.

        The validation loss is no sign: an overfitted network may be as bad.
        """
        tokens, rows = self.net.config.vocab_size, self.history.training[-1:]
        loss = rows[0]["train_loss"] if rows else 0.0
        if loss > DIVERGED * math.log(tokens) or not math.isfinite(val_loss):
            raise UserError(
                f"training diverged: after step {self.step} the loss is {loss:,.4g} nats per token "
                f"(validation {val_loss:,.4g}), where guessing has {math.log(tokens):.3g}. {divergence_advice(self.step_parts)}"
            )

    def _write_samples(self) -> None:
        """Let the network write, as it is now. With FSDP2 no process has the full network: then it does not."""
        if self.world.is_main and not distributed.is_sharded(self.net):
            with self.net.uncompiled():  # a text's shape changes with each token
                texts = self.write_samples(self.net)
            self.history.samples.append({"step": self.step, "texts": texts})
            self.run.samples(self.step, texts)

    @torch.no_grad()
    def validation_loss(self) -> float:
        """Mean nats per token over the validation windows."""
        module, size = self.step_parts.module, self.batches.batch_size
        results: list[tuple[Tensor, int]] = []
        module.eval()
        for tokens, targets in zip(*(torch.split(part, size) for part in self.validation), strict=True):
            scored = int((targets != IGNORE).sum())
            with self.training_step.autocast, self.net.uncompiled():
                loss = module(*to_device((tokens, targets), self.device), scored)
            results.append((loss, scored))
        distributed.reshard(module)
        module.train()
        mean = Mean()
        for loss, scored in results:
            mean.add(float(loss), scored)
        return mean.pop()

    def save(self) -> None:
        """Write a checkpoint of the steps that were taken."""
        self.flush_metrics()
        state = State(self.step, self.history.as_json(), self.training_step.scaler.state_dict(), self.best)
        self.checkpoints.save(state, self.net, self.step_parts.optimizers)

    def _restore(self) -> bool:
        """Continue from the newest checkpoint; False if there is none."""
        state = self.checkpoints.restore(self.net, self.step_parts.optimizers)
        if state is None:
            if self.world.is_main and (note := self.checkpoints.explain_new_start()):
                print(note, file=sys.stderr)
            return False
        self.step, self.history, self.best = state.step, History.from_json(state.history), state.best
        self.resumed = self.history.tokens
        self.training_step.scaler.load_state_dict(state.scaler)
        if self.world.is_main:
            print(f"resuming from step {self.step} of {self.schedule.steps}")
        return True

    @property
    def trained_here(self) -> int:
        """Tokens that this process and those beside it have trained on since they started."""
        return self.history.tokens - self.resumed

    def _not_finite(self, batch: Batch, loss: float, norm: float) -> str:
        windows = ", ".join(str(start // self.batches.stride) for start in self.batches.starts(batch.number)[:16])
        return (
            f"training diverged at step {batch.number + 1}: loss {loss}, gradient norm {norm}, learning rate "
            f"{batch.lr:g} (training windows {windows}). The last good checkpoint is kept. {divergence_advice(self.step_parts)}"
        )
