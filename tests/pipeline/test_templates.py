"""DVC's templates: nothing in params.yaml is taken for one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from project import Project

pytestmark = [pytest.mark.slow, pytest.mark.kind("params.yaml read as DVC reads it")]


def test_braces_in_a_prompt_are_text(finished: Project, tmp_path: Path) -> None:
    """A prompt with `${...}` passes through `dvc exp run -S`, again and again, and `dvc freeze train` is no template either."""
    project = finished.duplicate(tmp_path / "project")
    project.dvc("exp", "run", "-S", r"prompt='Seed $\{seed} of $\{'", "-S", "num_samples=1", "generate")
    project.dvc("exp", "run", "-S", "temperature=0.5", "download")  # nothing runs, but DVC writes params.yaml again
    project.dvc("repro", "--dry", "generate")
    (line,) = (project.folder / "data/generate/samples.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(line)["prompt"] == "Seed ${seed} of ${"
    project.dvc("freeze", "train")
    project.dvc("unfreeze", "train")
