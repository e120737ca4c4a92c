"""Pipeline: the list of stages, which dvc.yaml has."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stages.common import inputs
from stages.common.params import read_yaml

PIPELINE = Path(__file__).parents[2] / "dvc.yaml"


def stages() -> dict[str, dict[str, Any]]:
    """The stages of dvc.yaml by name, in its order: the params, deps, outs and metrics of each."""
    found: dict[str, dict[str, Any]] = read_yaml(PIPELINE.read_text(encoding="utf-8"))["stages"]
    return found


def edited() -> list[str]:
    """What is not as it was when the stages before `track` ran, as dvc.lock has it: params and files, each with the stage."""
    from dvc.repo import Repo  # takes 0.5 s to import

    with Repo() as repo:
        deps = [(stage.name, dep) for stage in repo.index.stages if stage.name != "track" for dep in stage.deps]
        return [f"{what} (since {stage} ran)" for stage, dep in deps for what in _names(dep.status())]


def recorded_otherwise(ran: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """For each stage, in words, what dvc.lock has that it did not run with: edited in the instant before DVC looked at it.

    Args:
        ran: the journal's lines of the stages that ran. Nothing of theirs may be `edited`.
    """
    lock = read_yaml(Path("dvc.lock").read_text(encoding="utf-8"))["stages"]
    found = {}
    for stage, line in ran.items():
        values, given = lock.get(stage, {}).get("params", {}).get("params.yaml", {}), line.get("ran_with", {})
        texts = [f"{key} {values[key]} (it was {given[key]})" for key in values if key in given and given[key] != values[key]]
        texts += ["other code"] if "code" in line and stage in lock and line["code"] != inputs.Inputs.read(stage).code() else []
        if texts:
            found[stage] = f"{stage} with {', '.join(texts)}"
    return found


def _names(status: dict[str, Any]) -> list[str]:
    """DVC's answer: a path and how it differs, or a file of params and for each key how it differs."""
    return [name for path, how in status.items() for name in (how if isinstance(how, dict) else [path])]


def measured() -> list[str]:
    """The stages that have a metrics.json."""
    return [name for name, stage in stages().items() if "metrics" in stage]
