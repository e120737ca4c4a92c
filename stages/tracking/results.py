"""Results: what the stages left in data/, read together: metrics, curves, samples."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stages.common.errors import UserError
from stages.common.files import need, read_json

DATA = Path("data")
STAGES = ("train", "evaluate", "generate")  # those with a metrics.json
CURVES = ("train_loss", "val_loss")  # logged by step; metrics.json has their ends


def metrics(data: Path = DATA) -> dict[str, float]:
    """Every stage's final metrics under one roof.

    Where two stages use one name the later one's gets its stage in front, and so do the ends of the curves, as `final_…`.

    Raises:
        UserError: a stage has not run.
    """
    found: dict[str, float] = {}
    for stage in STAGES:
        for key, value in read_json(data / stage / "metrics.json", stage).items():
            if isinstance(value, int | float):
                name = f"final_{key}" if key in CURVES else f"{stage}_{key}" if key in found else key
                found[name] = value
    return found


def curve() -> Iterator[tuple[int, dict[str, float]]]:
    """The training curves as (step, metrics) in the order of steps, then the epochs' means as (epoch, metrics)."""
    points: dict[int, dict[str, float]] = {}
    for name in ("history", "validation"):
        for step, values in _by("step", name):
            points.setdefault(step, {}).update(values)
    yield from sorted(points.items())
    for epoch, values in _by("epoch", "epochs"):
        yield epoch, {f"epoch_{key}": value for key, value in values.items()}


def rows(stage: str, name: str) -> list[dict[str, str]]:
    """A stage's CSV file, a dictionary for each row."""
    with open(need(DATA / stage / f"{name}.csv", stage), encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def tables() -> list[Path]:
    """The files behind the plots."""
    return sorted(path for stage in STAGES for path in (DATA / stage).glob("*.csv"))


def samples() -> list[dict[str, Any]]:
    """The generated samples, a row each, without their token ids."""
    path = need(DATA / "generate" / "samples.jsonl", "generate")
    with _damage_told(path, "generate"):
        found = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
        return [{key: value for key, value in row.items() if key != "ids"} for row in found]


def about() -> dict[str, Any]:
    """Where the stories come from, and how many there are."""
    return dict(read_json(DATA / "download" / "about.json", "download"))


def summary() -> str:
    """The pipeline's result in a few lines of Markdown.

    Raises:
        UserError: a stage has not run.
    """
    found = metrics()
    lines = [f"{found['parameters']:,} parameters, {found['steps']:,} steps, {found['tokens'] / 1e6:,.2f} million tokens"]
    line = f"validation perplexity **{found['perplexity']:.3f}** {_interval(found, 'perplexity')}"
    lines.append(f"{line}; on the training text {found['train_perplexity']:.3f}")
    if found["leaks"]:
        lines.append("**that perplexity means nothing: the network sees the tokens it predicts** (causal: false)")
    elif "perplexity_floor" in found:
        floor, ratio = found["perplexity_floor"], found["perplexity"] / found["perplexity_floor"]
        lines.append(f"the floor, this text's true entropy, is {floor:.3f}: the model is at {ratio:.3f} times the floor")
    return "\n".join(f"- {line}" for line in lines)


def _interval(found: dict[str, float], key: str) -> str:
    return f"(95 % interval {found[f'{key}_low']:.3f} to {found[f'{key}_high']:.3f})"


def _by(key: str, name: str) -> list[tuple[int, dict[str, float]]]:
    """The rows of one of training's tables as numbers, each under its step or epoch."""
    with _damage_told(DATA / "train" / f"{name}.csv", "train"):
        return [(int(row.pop(key)), _numbers(row)) for row in rows("train", name)]


@contextmanager
def _damage_told(path: Path, made_by: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, KeyError, TypeError, csv.Error) as error:
        raise UserError(f"{path} is damaged ({error!r}). Make it again: dvc repro -f {made_by}") from error


def _numbers(row: dict[str, str]) -> dict[str, float]:
    """The cells that hold something. `tokens` counts up with the steps and is no curve."""
    return {key: float(value) for key, value in row.items() if value and key != "tokens"}
