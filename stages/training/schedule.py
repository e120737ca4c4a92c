"""The schedule: the learning rate as a pure function of the step, and after which steps a training evaluates."""

from __future__ import annotations

import math
from dataclasses import dataclass

from stages.common.params import TrainParams

ROWS = 1_000  # rows of the history at most: longer trainings average over more steps a row


@dataclass(frozen=True)
class Schedule:
    """What happens after which step. Steps done are counted from 1; the number of a step, as `lr` takes it, from 0."""

    epochs: int
    steps_per_epoch: int
    eval_every: int  # steps between evaluations, beside those at each epoch's end; 0 = only those
    checkpoint_every: int
    peak_lr: float
    min_lr: float  # of the last step
    warmup_steps: int
    evaluates_start: bool = False  # whether to evaluate before the first step too

    @classmethod
    def of(cls, params: TrainParams, steps_per_epoch: int, pretrained: bool = False) -> Schedule:
        """The schedule that these params describe; `pretrained`: the first weights are a trained network's."""
        lrs = params.learning_rate, params.last_learning_rate, params.warmup_steps
        start = pretrained or params.epochs == 0
        return cls(params.epochs, steps_per_epoch, params.eval_every, params.checkpoint_every, *lrs, start)

    @property
    def steps(self) -> int:
        """Optimizer steps of the whole training."""
        return self.epochs * self.steps_per_epoch

    def lr(self, step: int) -> float:
        """The learning rate of a step; 0 is the first."""
        return learning_rate(step, self.steps, self.peak_lr, self.min_lr, self.warmup_steps)

    def ends_epoch(self, done: int) -> bool:
        """Whether an epoch ends after this many steps."""
        return done > 0 and done % self.steps_per_epoch == 0

    def evaluates(self, done: int) -> bool:
        """Whether the training evaluates after this many steps."""
        if done == 0:
            return self.evaluates_start
        return self.ends_epoch(done) or (self.eval_every > 0 and done % self.eval_every == 0)

    def writes_row(self, done: int) -> bool:
        """Whether the history gets a row after this many steps."""
        return done % max(1, self.steps // ROWS) == 0 or done == self.steps


def learning_rate(step: int, steps: int, peak: float, minimum: float, warmup: int) -> float:
    """Linear warm-up to `peak` at step `warmup`, then half a cosine (Loshchilov and Hutter 2017) down to `minimum` at the last.

    `step` is 0 to steps - 1. A warm-up longer than the training is cut to half of it. The rate is never 0 in the warm-up.
    """
    if warmup >= steps:
        warmup = steps // 2
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    progress = (step - warmup) / max(1, steps - 1 - warmup)  # 0 at the peak, 1 at the last step
    return minimum + (peak - minimum) * 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))
