"""History: what a training measured, as rows of its tables."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from stages.common import files

Row = dict[str, float]
COLUMNS = {  # of a table without rows
    "history": ("step", "tokens", "epoch", "train_loss", "learning_rate", "grad_norm"),
    "validation": ("step", "epoch", "val_loss"),
    "epochs": ("epoch", "train_loss", "val_loss"),
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

    def add(self, loss: float, tokens: int) -> None:
        """Add a step's mean loss over its tokens."""
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
