"""Results: what the stages left in data/, read together and once: metrics, curves, samples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.common import files
from stages.tracking.pipeline import measured

DATA = Path("data")
LOSSES, SPEEDS = ("train_loss", "val_loss"), ("tokens_per_second", "mfu", "peak_gpu_memory_gib")  # measured by step


@dataclass(frozen=True)
class Results:
    """What a pipeline that has run left behind."""

    metrics: dict[str, float]  # under MLflow's names, see `metrics`
    curve: list[tuple[int, dict[str, float]]]  # (step, metrics) by step, then (epoch, means of the epoch); MLflow's names
    samples: list[dict[str, Any]]  # a row each, without their token ids
    about: dict[str, Any]  # where the stories come from, and how many there are
    tables: list[Path]  # the files behind the plots
    report: Path  # evaluate's, Markdown
    samples_page: Path  # Markdown
    explorer: Path  # the page to look inside the network

    @classmethod
    def read(cls, data: Path = DATA) -> Results:
        """Read it all.

        Raises:
            UserError: a stage has not run, or a file is damaged.
        """
        samples = files.read_jsonl(data / "generate" / "samples.jsonl", "generate")
        return cls(
            metrics(data),
            list(_curve(data / "train")),
            [{key: value for key, value in row.items() if key != "ids"} for row in samples],
            files.read_json(data / "download" / "about.json", "download"),
            sorted(path for stage in measured() for path in (data / stage).glob("*.csv")),
            files.require(data / "evaluate" / "report.md", "evaluate"),
            files.require(data / "generate" / "samples.md", "generate"),
            files.require(data / "explain" / "explorer.html", "explain"),
        )

    def summary(self) -> str:
        """The pipeline's result in a few lines of Markdown."""
        found = self.metrics
        parameters, steps, tokens = (found[f"train/{key}"] for key in ("parameters", "steps", "tokens"))
        lines = [f"{parameters:,} parameters, {steps:,} steps, {tokens / 1e6:,.2f} million tokens"]
        perplexity, low, high = (found[f"evaluate/perplexity{end}"] for end in ("", "_low", "_high"))
        line = f"validation perplexity **{perplexity:.3f}** (95 % interval {low:.3f} to {high:.3f})"
        lines.append(f"{line}; on the training text {found['evaluate/train_perplexity']:.3f}")
        if found["evaluate/leak_alarm"]:
            lines.append("**that perplexity means nothing: the network sees the tokens it predicts** (causal: false)")
        elif floor := found.get("evaluate/perplexity_floor"):
            known = f"the floor, the perplexity of this text's true distribution, is {floor:.3f}"
            lines.append(f"{known}: the model is at {perplexity / floor:.3f} times the floor")
        return "\n".join(f"- {line}" for line in lines)


def metrics(data: Path = DATA) -> dict[str, float]:
    """Every stage's final metrics together, each as <stage>/<its name in metrics.json>.

    Raises:
        UserError: a stage has not run.
    """
    found: dict[str, float] = {}
    for stage in measured():
        values = files.read_json(data / stage / "metrics.json", stage)
        found |= prefixed(stage, {key: value for key, value in values.items() if isinstance(value, int | float)})
    return found


def prefixed(group: str, values: Mapping[str, float]) -> dict[str, float]:
    """Metrics as MLflow names them: its chart view has a section for each group, in alphabetical order ("curves" first)."""
    return {f"{group}/{key}": value for key, value in values.items()}


def by_step(values: Mapping[str, float]) -> dict[str, float]:
    """What training measures by step, as MLflow names it."""
    groups = dict.fromkeys(LOSSES, "curves") | dict.fromkeys(SPEEDS, "machine")
    return {f"{groups.get(key, 'train')}/{key}": value for key, value in values.items()}


def _curve(folder: Path) -> Iterator[tuple[int, dict[str, float]]]:
    points: dict[int, dict[str, float]] = {}
    for name in ("history", "validation"):
        for row in files.read_csv(folder / f"{name}.csv", "train", "step"):
            row.pop("tokens", None)  # they count up with the steps: no curve
            points.setdefault(int(row.pop("step")), {}).update(row)
    yield from ((step, by_step(values)) for step, values in sorted(points.items()))
    for row in files.read_csv(folder / "epochs.csv", "train", "epoch"):
        yield int(row.pop("epoch")), prefixed("epochs", row)
