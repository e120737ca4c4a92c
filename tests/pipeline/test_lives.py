"""DVC dies, its container gets another name, its terminal closes: training saves itself, and its run is resumed as one run."""

from __future__ import annotations

import shutil
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import psutil
import pytest
from project import Project, assert_complete, assert_watched, container, runs_stage, signal_group, wait_for
from reference import forget

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),  # seconds: real pipelines, perhaps on a busy machine
    pytest.mark.kind("DVC, container or terminal gone"),
]
SOON = 300  # seconds for what takes a few on an idle machine
LONG = {"epochs": 60, "eval_every": 0, "checkpoint_every": 100_000}  # caught in the middle; it saves itself only when it stops


@pytest.fixture
def project(finished: Project, tmp_path: Path) -> Iterator[Project]:
    """A project that has to train, with an empty store; nothing that was started there outlives the test."""
    project = finished.duplicate(tmp_path / "project")
    project.set(**LONG)
    forget(project.folder, "train")
    for path in [*project.folder.glob("mlflow.db*"), *project.folder.glob("mlruns/*/*")]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    project.python("-c", "from stages.tracking import store; store.connect()")  # it is there when the tests look into it
    project.commit()
    yield project
    for process in trainings(tmp_path):
        process.kill()


def trainings(folder: Path) -> list[psutil.Process]:
    """The processes that train below a folder."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if runs_stage(process, "train") and Path(process.cwd()).is_relative_to(folder):
                found.append(process)
    return found


def points(project: Project) -> int:
    """How many points of a curve are in the store."""
    query = "SELECT count(*) FROM metrics WHERE key = 'curves/train_loss'"
    with closing(sqlite3.connect(project.folder / "mlflow.db", timeout=60)) as store:
        return int(store.execute(query).fetchone()[0])


def wait_for_points(project: Project) -> None:
    """Wait until a training has put some more into the store."""
    before = points(project)
    wait_for(lambda: points(project) > before, SOON, pause=0.1)
    assert trainings(project.folder)


@container
def test_another_host_name_after_a_kill(project: Project) -> None:
    """A container is killed in training; the next one has another name: the same run is resumed, none stays RUNNING."""
    project.set(checkpoint_every=10)
    first = project.start("repro", container="container-a")
    wait_for_points(project)
    wait_for(project.checkpointed)
    first.kill()
    first.communicate()
    second = project.start("repro", container="container-b")
    said, _ = second.communicate(timeout=900)
    assert second.returncode == 0, said
    assert "resuming from step" in said
    (run,) = project.runs()
    assert_complete(run, project)
    assert run.tags["pipeline.resumed"] == "1"
    assert not list((project.folder / ".dvc" / "tmp" / "sessions").iterdir())


def test_ctrl_c_a_kill_of_dvc_and_a_closed_terminal_leave_one_run(project: Project) -> None:
    """Ctrl-C, `kill -9` of DVC alone, then SIGHUP while nobody reads the output: training saves itself each time. Under nohup
    SIGHUP ends nothing: `dvc repro` resumes the training and its run, no point twice, none missing."""
    process, saved = project.start("repro"), 0
    for number in (signal.SIGINT, signal.SIGKILL, signal.SIGHUP):
        wait_for_points(project)
        if number == signal.SIGKILL:
            process.kill()
        else:
            assert process.stdout is not None
            process.stdout.close() if number == signal.SIGHUP else None
            signal_group(process, number)
        process.wait()
        assert process.returncode
        before, saved = saved, step_saved_by_itself(project)
        assert saved > before
        process = project.start("repro", under="nohup" if number == signal.SIGHUP else "")
    wait_for_points(project)
    signal_group(process, signal.SIGHUP)
    said, _ = process.communicate(timeout=900)
    assert process.returncode == 0 and "resuming from step" in said, said
    (run,) = project.runs()
    assert_complete(run, project)
    assert_watched(run)
    assert run.tags["pipeline.resumed"] == "3"
    for key in ("cpu_utilization_percentage", "system_memory_usage_megabytes", "disk_usage_percentage"):
        steps = run.steps(f"system/{key}")
        assert steps, key
        assert len(steps) == len(set(steps)), f"{key}: doubled points"


def step_saved_by_itself(project: Project) -> int:
    """Training has ended by itself with a checkpoint, and its run is not left RUNNING: the checkpoint's step."""
    wait_for(lambda: not trainings(project.folder), SOON, pause=0.2)
    wait_for(lambda: project.runs()[0].status == "KILLED", SOON, pause=0.2)
    return project.saved()
