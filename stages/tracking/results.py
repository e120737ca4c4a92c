"""Results: what the stages left in data/, read together and once: metrics, curves, samples."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.common import files
from stages.tracking.pipeline import measured

DATA = Path("data")
CURVES = ("train_loss", "val_loss")  # logged by step; metrics.json has their ends


@dataclass(frozen=True)
class Results:
    """What a pipeline that has run left behind."""

    metrics: dict[str, float]  # see `metrics`
    curve: list[tuple[int, dict[str, float]]]  # (step, metrics) in the order of steps, then the means as (epoch, metrics)
    by_position: list[tuple[int, float]]  # position in the context, validation loss there in nats per token
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
        positions = files.read_csv(data / "evaluate" / "loss_by_position.csv", "evaluate", "position", "loss")
        samples = files.read_jsonl(data / "generate" / "samples.jsonl", "generate")
        return cls(
            metrics(data),
            list(_curve(data / "train")),
            [(int(row["position"]), row["loss"]) for row in positions],
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
        lines = [f"{found['parameters']:,} parameters, {found['steps']:,} steps, {found['tokens'] / 1e6:,.2f} million tokens"]
        line = f"validation perplexity **{found['perplexity']:.3f}** {_interval(found, 'perplexity')}"
        lines.append(f"{line}; on the training text {found['train_perplexity']:.3f}")
        if found["leak_alarm"]:
            lines.append("**that perplexity means nothing: the network sees the tokens it predicts** (causal: false)")
        elif "perplexity_floor" in found:
            floor, ratio = found["perplexity_floor"], found["perplexity"] / found["perplexity_floor"]
            known = f"the floor, the perplexity of this text's true distribution, is {floor:.3f}"
            lines.append(f"{known}: the model is at {ratio:.3f} times the floor")
        return "\n".join(f"- {line}" for line in lines)


def metrics(data: Path = DATA) -> dict[str, float]:
    """Every stage's final metrics together.

    If two stages share a metric name, the later one is prefixed with its stage; the ends of the curves are called `final_…`.

    Raises:
        UserError: a stage has not run.
    """
    found: dict[str, float] = {}
    for stage in measured():
        for key, value in files.read_json(data / stage / "metrics.json", stage).items():
            if isinstance(value, int | float):
                name = f"final_{key}" if key in CURVES else f"{stage}_{key}" if key in found else key
                found[name] = value
    return found


def _curve(folder: Path) -> Iterator[tuple[int, dict[str, float]]]:
    points: dict[int, dict[str, float]] = {}
    for name in ("history", "validation"):
        for row in files.read_csv(folder / f"{name}.csv", "train", "step"):
            row.pop("tokens", None)  # they count up with the steps: no curve
            points.setdefault(int(row.pop("step")), {}).update(row)
    yield from sorted(points.items())
    for row in files.read_csv(folder / "epochs.csv", "train", "epoch"):
        yield int(row.pop("epoch")), {f"epoch_{key}": value for key, value in row.items() if key != "tokens"}


def _interval(found: dict[str, float], key: str) -> str:
    return f"(95 % interval {found[f'{key}_low']:.3f} to {found[f'{key}_high']:.3f})"
