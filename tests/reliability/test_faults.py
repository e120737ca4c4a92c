"""Struck down at any moment of any stage, the pipeline ends with the bytes of an undisturbed run when it is started again.

A few moments here; `make faults` tries 20 of each kind in every stage (MOMENTS in the environment changes that).
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from project import Project, signal_group, wait_for
from reference import STAGES, Reference, forget, stage_process

MOMENTS = int(os.environ.get("MOMENTS", "20"))
WHOM = ("all", "stage", "dvc")  # the machine goes down; the stage alone, as when memory runs out; DVC alone
SIGNALS = {"kill -9": signal.SIGKILL, "SIGTERM": signal.SIGTERM}


def strike(project: Project, stage: str, number: signal.Signals, whom: str, delay: float) -> bool:
    """Start `dvc repro`, wait until the stage runs and `delay` seconds more, and strike; whether it was still running."""
    running = project.start("repro")
    dvc = psutil.Process(running.pid)
    wait_for(lambda: stage_process(dvc, stage) or running.poll() is not None)
    victim = stage_process(dvc, stage)
    time.sleep(delay)
    hit = running.poll() is None
    if hit and whom == "all":
        signal_group(running, number)
    elif hit and whom == "dvc":
        running.send_signal(number)
    elif whom == "stage":
        hit = victim is not None and victim.is_running()
        if hit:
            victim.send_signal(number)
    if whom == "dvc":  # its stage holds the pipe, and runs on beside the next one
        running.wait(timeout=60)
    else:
        running.communicate(timeout=60)
    return hit


def survives(reference: Reference, folder: Path, stage: str, name: str, whom: str, share: float) -> None:
    """One strike, one `dvc repro`: dvc.lock and every output equal the undisturbed run's.

    Args:
        share: when to strike, as a share of the stage's life; halved if that was too late.
    """
    project = reference.copy(folder, without=stage)
    while not strike(project, stage, SIGNALS[name], whom, share * reference.seconds[stage]):
        forget(folder, stage)
        share /= 2
    said = project.dvc("repro")
    assert reference.differences(project) == [], said
    assert not list(folder.glob(".checkpoints/*/*.safetensors")), "no checkpoint is left"
    assert not list(folder.glob("data/*/.*.*")), "no temporary file is left"
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def moments(request: pytest.FixtureRequest) -> Iterator[random.Random]:
    """Random numbers that are the same in each run of the suite, others in each test."""
    return random.Random(request.node.name)


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("name", SIGNALS)
@pytest.mark.kind("struck down, then `dvc repro`: the same bytes")
def test_struck_down(reference: Reference, stage: str, name: str, moments: random.Random, tmp_path: Path) -> None:
    """DVC and the stage go down together, once at a random moment of the stage."""
    survives(reference, tmp_path / "project", stage, name, "all", moments.uniform(0.1, 0.9))


@pytest.mark.extra
@pytest.mark.parametrize("moment", range(MOMENTS))
@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("name", SIGNALS)
def test_struck_down_anywhere(
    request: pytest.FixtureRequest,
    reference: Reference,
    stage: str,
    name: str,
    moment: int,
    moments: random.Random,
    tmp_path: Path,
) -> None:
    """All together, the stage alone, or DVC alone (whose stage then runs on beside the next one), at evenly spread moments."""
    whom = WHOM[moment % len(WHOM)]
    survives(reference, tmp_path / "project", stage, name, whom, 1.15 * (moment + moments.random()) / MOMENTS)
