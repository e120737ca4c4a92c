"""Killed at any moment of any stage, the pipeline ends with the bytes of an undisturbed run when it is started again.

One kill of each stage here; `make faults` tries 20 of each kind in every stage (MOMENTS in the environment changes that).
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from functools import partial
from itertools import cycle
from pathlib import Path

import psutil
import pytest
from project import Project, assert_complete, runs_stage, signal_group, wait_for
from reference import PATIENCE, Reference, at_once, forget, starts_stage
from repository import STAGES

pytestmark = pytest.mark.kind("killed, then resumed with `dvc repro`: identical output")
MOMENTS = int(os.environ.get("MOMENTS", "20"))
TARGETS = ("all", "stage", "dvc")  # the machine goes down; the stage alone, as when memory runs out; DVC alone
SIGNALS = {"kill -9": signal.SIGKILL, "SIGTERM": signal.SIGTERM}


def stage_process(dvc: psutil.Process, stage: str) -> psutil.Process | None:
    """The process of a stage that DVC runs."""
    try:
        return next((process for process in dvc.children(recursive=True) if runs_stage(process, stage)), None)
    except psutil.Error:
        return None


def kill_stage(project: Project, stage: str, number: signal.Signals, target: str, delay: float) -> bool:
    """Start `dvc repro`, wait until the stage starts and `delay` seconds more, and kill.

    Returns:
        whether the target was there: the stage may have been up to date, or may have ended already.
    """
    running = project.start("repro")
    if not starts_stage(running, stage):
        assert running.wait(timeout=PATIENCE) == 0
        return False
    dvc = psutil.Process(running.pid)
    if target == "stage":
        wait_for(lambda: stage_process(dvc, stage) or running.poll() is not None)
    time.sleep(delay)
    killed = running.poll() is None
    if target == "stage":
        victim = stage_process(dvc, stage)
        killed = victim is not None
        if victim:
            victim.send_signal(number)
    elif killed and target == "all":
        signal_group(running, number)
    elif killed:
        running.send_signal(number)
        running.wait(timeout=PATIENCE)  # its stage holds the pipe, and runs on beside the next one
        return True
    running.communicate(timeout=PATIENCE)
    return killed


def kill_at(project: Project, reference: Reference, stage: str, name: str, target: str, fraction: float) -> None:
    """Kill a stage after this fraction of its time in the undisturbed run; if that was too late, after half of it, and so on.

    Then do what `make repro` does before it starts DVC: a kill while DVC writes one of its own files leaves that cut short.
    """
    while not kill_stage(project, stage, SIGNALS[name], target, fraction * reference.seconds[stage]):
        forget(project.folder, stage)
        fraction /= 2
    project.python("-m", "tools.mend")


def assert_identical(project: Project, reference: Reference) -> None:
    """`dvc repro` ends with the dvc.lock and the outputs of the undisturbed run, and nothing is left behind."""
    said = project.dvc("repro")
    assert reference.differences(project) == [], said
    assert not list(project.folder.glob(".checkpoints/*/*.safetensors")), "no checkpoint is left"
    assert not list(project.folder.glob("data/*/.*.*")), "no temporary file is left"


@pytest.mark.slow
def test_killed_stages_resume(reference: Reference, tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    """`dvc repro` is killed in each stage, by kill -9 and SIGTERM in turns, at a random moment, and started again each time:
    every output is that of an undisturbed run, and MLflow has one complete run."""
    project, moments = reference.unfinished(tmp_path / "project"), random.Random(0)  # the same in each run of the suite
    for stage, name in zip(STAGES, cycle(SIGNALS), strict=False):
        kill_at(project, reference, stage, name, "all", moments.uniform(0.1, 0.7))
    assert_identical(project, reference)
    (run,) = project.runs()
    assert_complete(run, project)
    record_property("cases", len(STAGES))
    record_property("passed", len(STAGES))


@pytest.mark.extra
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("name", SIGNALS)
def test_killed_stage_resumes(
    reference: Reference, stage: str, name: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """All together, the stage alone, or DVC alone (whose stage then runs on beside the next one), at evenly spread moments."""
    moments = random.Random(f"{name} {stage}")

    def resumes(moment: int) -> None:
        project = reference.copy(tmp_path / str(moment), without=stage)
        fraction = 1.15 * (moment + moments.random()) / MOMENTS
        kill_at(project, reference, stage, name, TARGETS[moment % len(TARGETS)], fraction)
        assert_identical(project, reference)
        shutil.rmtree(project.folder, ignore_errors=True)

    at_once([partial(resumes, moment) for moment in range(MOMENTS)], record_property)
