"""Accidents around a run: a second `dvc repro` beside it, a clock that runs backwards, a damaged file in DVC's cache."""

from __future__ import annotations

import time
from pathlib import Path

import faults
import pytest
from project import assert_complete
from reference import PATIENCE, Reference

pytestmark = [pytest.mark.slow, pytest.mark.kind("accident around a run")]


def test_two_repros_at_once_end_with_the_same_bytes(reference: Reference, tmp_path: Path) -> None:
    """Two `dvc repro` at the same moment: each completes or says that the other one runs; the next ends with the same bytes."""
    project = reference.copy(tmp_path / "project", without="generate")
    both = [project.start("repro"), project.start("repro")]
    said = [running.communicate(timeout=PATIENCE)[0] for running in both]
    assert 0 in [running.returncode for running in both], said
    for running, text in zip(both, said, strict=True):
        assert "Traceback" not in text
        if running.returncode:
            assert "ERROR: " in text and ("another DVC process" in text or "is busy" in text), text
    project.dvc("repro")
    assert reference.differences(project) == [], said


def test_clock_that_runs_backwards_changes_nothing(reference: Reference, tmp_path: Path) -> None:
    """The wall clock runs backwards while a network is trained and its run completed: the same bytes, one complete run."""
    project = reference.copy(tmp_path / "project")
    known = {run.id for run in project.runs()}
    project.env |= faults.clock_backwards(time.time())
    said = [project.python("-m", f"stages.{stage}") for stage in ("train", "track")]
    assert reference.differences(project) == [], said
    (run,) = [run for run in project.runs() if run.id not in known]
    assert_complete(run, project, by_dvc=False)
