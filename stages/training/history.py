"""History: what a training measured, as rows of its tables."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from stages.common import files
from stages.common.files import Metric

Row = dict[str, float]
COLUMNS = {  # of a table without rows
    "history": ("step", "tokens", "epoch", "train_loss", "learning_rate", "grad_norm"),
    "validation": ("step", "epoch", "val_loss"),
    "epochs": ("epoch", "train_loss", "val_loss"),
}
METRICS = {  # of metrics.json
    "train_loss": Metric(
        "-Σ log p(x) / tokens over the last epoch, each step with the weights of that moment.", "nats per token", "low"
    ),
    "val_loss": Metric(
        "The same over at most 128 windows of the validation text after the last step; `nats_per_token` is that of all of it.",
        "nats per token",
        "low; rising while train_loss falls is overfitting",
    ),
    "best_step": Metric("The step with the lowest val_loss, whose weights are kept; only with `keep: best`.", "step", "-"),
    "best_val_loss": Metric("val_loss at best_step; only with `keep: best`.", "nats per token", "low"),
    "steps": Metric("Optimizer steps that were taken.", "steps", "-"),
    "tokens": Metric("Tokens that were trained on, each counted as often as it was a target.", "tokens", "-"),
    "parameters": Metric("Trainable numbers of the network; weights that two matrices share count once.", "numbers", "-"),
}
CURVES = {  # by step; a row of history.csv covers several steps of a long training
    "train_loss": Metric("-Σ log p(x) / tokens of the row's steps.", "nats per token", "low, and falling"),
    "val_loss": METRICS["val_loss"]._replace(meaning="-Σ log p(x) / tokens of at most 128 windows of the validation text."),
    "epoch": Metric("Passes over the training text so far.", "epochs", "-"),
    "learning_rate": Metric("The optimizer's learning rate in the row's last step.", "1", "as the schedule says"),
    "grad_norm": Metric(
        "Length of the gradient of all parameters before it is clipped, in the row's last step.",
        "nats per token, per unit of a parameter",
        "steady; often above `grad_clip`, the learning rate is too high",
    ),
    "skipped_steps": Metric(
        "Steps so far that changed nothing, because their gradient did not fit; only in fp16.", "steps", "a few, at the start"
    ),
    "tokens_per_second": Metric("Tokens trained on / seconds, without evaluation and checkpoints.", "tokens/s", "high"),
    "mfu": Metric(
        "Floating-point operations that the network needs / those that this GPU does at most, measured before the training "
        "(model FLOPs utilization); only on a GPU.",
        "share",
        "high; small networks cannot reach much",
    ),
    "peak_gpu_memory_gib": Metric("The most GPU memory that training held; only on a GPU.", "GiB", "below the GPU's memory"),
}
BY_EPOCH = {  # the rows of epochs.csv
    "train_loss": METRICS["train_loss"]._replace(meaning="-Σ log p(x) / tokens of the epoch's steps."),
    "val_loss": METRICS["val_loss"]._replace(meaning="The curve's val_loss at the epoch's end."),
}


@dataclass
class Mean:
    """The mean loss of some steps, weighted by their tokens."""

    total: float = 0.0  # nats
    tokens: int = 0

    def add(self, loss: float, tokens: int) -> None:
        """Add a step."""
        self.total, self.tokens = self.total + loss * tokens, self.tokens + tokens

    def pop(self) -> float:
        """The mean of all steps since the last call, in nats per token; the next mean begins."""
        mean = self.total / self.tokens
        self.total, self.tokens = 0.0, 0
        return mean


@dataclass
class History:
    """The tables, and the running means for their next rows."""

    training: list[Row] = field(default_factory=list)  # for their columns see above
    validation: list[Row] = field(default_factory=list)
    epochs: list[Row] = field(default_factory=list)
    samples: list[dict[str, Any]] = field(default_factory=list)  # step, texts: before the first step and at each evaluation
    since_row: Mean = field(default_factory=Mean)
    since_epoch: Mean = field(default_factory=Mean)
    tokens: int = 0  # targets trained on
    skipped: int = 0  # steps that changed nothing, because their gradient did not fit float16
    grad_norm: float = 0.0  # of the last gradient that was applied

    def add(self, loss: float, norm: float, tokens: int) -> None:
        """Add a step's mean loss over its tokens, and the norm of its gradient; if that is not finite, the step was skipped."""
        if math.isfinite(norm):
            self.grad_norm = norm
        else:
            self.skipped += 1
        self.tokens += tokens
        self.since_row.add(loss, tokens)
        self.since_epoch.add(loss, tokens)

    @property
    def best(self) -> Row:
        """The first of the evaluations with the lowest loss."""
        return min(self.validation, key=lambda row: row["val_loss"])

    def losses(self, with_best: bool = False) -> dict[str, float]:
        """The last epoch's mean training loss, if there was one, and the last validation loss, nats per token; and the best."""
        last = self.epochs[-1] if self.epochs else self.validation[-1]
        found = {key: last[key] for key in ("train_loss", "val_loss") if key in last}
        return found | ({"best_step": int(self.best["step"]), "best_val_loss": self.best["val_loss"]} if with_best else {})

    def summary(self, step: int, tokens: int, seconds: float, keeps_best: bool) -> str:
        """What was trained, how well and how fast, and which weights are the result; `tokens`: in these seconds."""
        names = {"train_loss": "train loss", "val_loss": "validation loss"}
        losses = ", ".join(f"{names[key]} {loss:.4f}" for key, loss in self.losses().items())
        lines = [
            f"trained to step {step:,} in {seconds / 60:.1f} minutes ({tokens / seconds:,.0f} tokens/s): {losses} nats/token"
        ]
        best = f"step {int(self.best['step']):,}, which has the lowest validation loss ({self.best['val_loss']:.4f})"
        if keeps_best:
            lines.append(f"kept: the weights of {best}")
        elif self.best["step"] != step:
            lines.append(f"kept: the weights of the last step, {step:,}, not of {best}; keep: best keeps those")
        else:
            lines.append(f"kept: the weights of the last step, {step:,}")
        if self.skipped:
            lines.append(f"steps skipped because their gradients were too large for fp16: {self.skipped:,}")
        return "\n".join(lines)

    def write(self, folder: Path) -> None:
        """Write the tables as history.csv, validation.csv and epochs.csv, and the samples as samples.jsonl."""
        for name, rows in (("history", self.training), ("validation", self.validation), ("epochs", self.epochs)):
            files.write_csv(folder / f"{name}.csv", rows, COLUMNS[name])
        files.write_jsonl(folder / "samples.jsonl", self.samples)

    def as_json(self) -> dict[str, Any]:
        """All of it as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> History:
        """What `as_json` gave."""
        means = {key: Mean(**values[key]) for key in ("since_row", "since_epoch")}
        return cls(**(values | means))
