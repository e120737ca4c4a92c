"""Pipeline: the list of stages, which dvc.yaml has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stages.common.params import read_yaml

PIPELINE = Path(__file__).parents[2] / "dvc.yaml"


def stages() -> dict[str, dict[str, Any]]:
    """The stages of dvc.yaml by name, in its order: the params, deps, outs and metrics of each."""
    found: dict[str, dict[str, Any]] = read_yaml(PIPELINE.read_text(encoding="utf-8"))["stages"]
    return found


def measured() -> list[str]:
    """The stages that have a metrics.json."""
    return [name for name, stage in stages().items() if "metrics" in stage]
