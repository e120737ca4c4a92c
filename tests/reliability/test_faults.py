"""Struck down at any moment of any stage, the pipeline ends with the bytes of an undisturbed run when it is started again.

A few moments here; `make faults` tries 20 of each kind in every stage (MOMENTS in the environment changes that).
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import psutil
import pytest
from project import Project, runs_stage, signal_group, wait_for
from reference import PATIENCE, STAGES, Reference, at_once, forget, starts_stage

pytestmark = pytest.mark.kind("struck down, then `dvc repro`: the same bytes")
MOMENTS = int(os.environ.get("MOMENTS", "20"))
WHOM = ("all", "stage", "dvc")  # the machine goes down; the stage alone, as when memory runs out; DVC alone
SIGNALS = {"kill -9": signal.SIGKILL, "SIGTERM": signal.SIGTERM}


def stage_process(dvc: psutil.Process, stage: str) -> psutil.Process | None:
    """The process of a stage that DVC runs."""
    try:
        return next((process for process in dvc.children(recursive=True) if runs_stage(process, stage)), None)
    except psutil.Error:
        return None


def strike(project: Project, stage: str, number: signal.Signals, whom: str, delay: float) -> bool:
    """Start `dvc repro`, wait until the stage starts and `delay` seconds more, and strike; whether it was still running."""
    running = project.start("repro")
    assert starts_stage(running, stage), "DVC does not run the stage"
    dvc = psutil.Process(running.pid)
    if whom == "stage":
        wait_for(lambda: stage_process(dvc, stage) or running.poll() is not None)
    time.sleep(delay)
    hit = running.poll() is None
    if whom == "stage":
        victim = stage_process(dvc, stage)
        hit = victim is not None
        if victim:
            victim.send_signal(number)
    elif hit and whom == "all":
        signal_group(running, number)
    elif hit:
        running.send_signal(number)
        running.wait(timeout=PATIENCE)  # its stage holds the pipe, and runs on beside the next one
        return True
    running.communicate(timeout=PATIENCE)
    return hit


def go_on(project: Project) -> str:
    """What `make repro` does, and what DVC says. A kill in the moment in which DVC writes one of its own files leaves that cut
    short, and DVC would refuse it: `tools.mend` comes first.
    """
    project.python("-m", "tools.mend")
    return project.dvc("repro")


def survives(reference: Reference, folder: Path, stage: str, name: str, whom: str, share: float) -> None:
    """One strike, one `dvc repro`: dvc.lock and every output equal the undisturbed run's.

    Args:
        share: when to strike, as a share of the stage's life; halved if that was too late.
    """
    project = reference.copy(folder, without=stage)
    while not strike(project, stage, SIGNALS[name], whom, share * reference.seconds[stage]):
        forget(folder, stage)
        share /= 2
    said = go_on(project)
    assert reference.differences(project) == [], said
    assert not list(folder.glob(".checkpoints/*/*.safetensors")), "no checkpoint is left"
    assert not list(folder.glob("data/*/.*.*")), "no temporary file is left"
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_struck_down(reference: Reference, stage: str, tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    """DVC and the stage go down together, by kill -9 and by SIGTERM, at a random moment of the stage."""
    moments = random.Random(stage)  # the same in each run of the suite
    at_once(
        [partial(survives, reference, tmp_path / name, stage, name, "all", moments.uniform(0.1, 0.9)) for name in SIGNALS],
        record_property,
    )


@pytest.mark.extra
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("name", SIGNALS)
def test_struck_down_anywhere(
    reference: Reference, stage: str, name: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """All together, the stage alone, or DVC alone (whose stage then runs on beside the next one), at evenly spread moments."""
    moments = random.Random(f"{name} {stage}")
    at_once(
        [
            partial(
                survives,
                reference,
                tmp_path / str(moment),
                stage,
                name,
                WHOM[moment % len(WHOM)],
                1.15 * (moment + moments.random()) / MOMENTS,
            )
            for moment in range(MOMENTS)
        ],
        record_property,
    )
