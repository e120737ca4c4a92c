"""History: what a training measured, as rows of its tables."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from stages.common import files

Row = dict[str, float]


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

    training: list[Row] = field(default_factory=list)  # step, tokens, epoch, train_loss, learning_rate, grad_norm
    validation: list[Row] = field(default_factory=list)  # step, epoch, val_loss
    epochs: list[Row] = field(default_factory=list)  # epoch, train_loss, val_loss
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

    def write(self, folder: Path) -> None:
        """Write the tables as history.csv, validation.csv and epochs.csv, and the samples as samples.jsonl."""
        for name, rows in (("history", self.training), ("validation", self.validation), ("epochs", self.epochs)):
            files.write_csv(folder / f"{name}.csv", rows)
        files.write_jsonl(folder / "samples.jsonl", self.samples)

    def as_json(self) -> dict[str, Any]:
        """All of it as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> History:
        """What `as_json` gave."""
        means = {key: Mean(**values[key]) for key in ("since_row", "since_epoch")}
        return cls(**(values | means))
