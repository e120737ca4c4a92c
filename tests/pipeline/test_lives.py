"""DVC dies, its container gets another name, its terminal closes: training saves itself, and its run goes on as one run."""

from __future__ import annotations

import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import psutil
import pytest
from project import Project, assert_complete, container, runs_stage, wait_for
from reference import forget

from stages.tracking import pipeline

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),  # seconds: real pipelines, perhaps on a busy machine
    pytest.mark.kind("DVC, container or terminal gone"),
]
SOON = 60  # seconds for what takes a few on an idle machine
LONG = {"epochs": 60, "eval_every": 0, "checkpoint_every": 100_000}  # caught in the middle; it saves itself only when it stops


@pytest.fixture(scope="module")
def untrained(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project that has everything but the network, and an empty store. Copy it; don't write in it."""
    project = finished.duplicate(tmp_path_factory.mktemp("lives") / "untrained")
    project.set(**LONG)
    project.dvc("repro", "evaluate", "explain")
    forget(project.folder, "train")
    for path in [*project.folder.glob("mlflow.db*"), *project.folder.glob("mlruns/*/*")]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    project.python("-c", "from stages.tracking import store; store.connect()")  # it is there when the tests look into it
    project.commit()
    return project


@pytest.fixture
def project(untrained: Project, tmp_path: Path) -> Iterator[Project]:
    """A copy of it; nothing that was started there outlives the test."""
    yield untrained.duplicate(tmp_path / "project")
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


def caught(project: Project) -> psutil.Process:
    """Wait until a training has a step in the store."""
    wait_for(lambda: logged(project), SOON, pause=0.1)
    (training,) = trainings(project.folder)
    return training


def logged(project: Project) -> int:
    """How many runs have a step in the store."""
    query = "SELECT count(DISTINCT run_uuid) FROM metrics WHERE key = 'train_loss'"
    with closing(sqlite3.connect(project.folder / "mlflow.db", timeout=60)) as store:
        return int(store.execute(query).fetchone()[0])


def saved(project: Project) -> list[int]:
    """The steps of the checkpoints."""
    return [int(path.name.split("-")[1]) for path in (project.folder / ".checkpoints").glob("*/step-*-*.safetensors")]


@container
def test_another_host_name_after_a_kill(project: Project) -> None:
    """A container is killed outright in training; the next one has another name: the same run goes on, none stays RUNNING."""
    project.set(checkpoint_every=10)
    first = project.start("repro", container="container-a")
    caught(project)
    wait_for(lambda: saved(project))
    first.kill()
    first.communicate()
    second = project.start("repro", container="container-b")
    said, _ = second.communicate(timeout=900)
    assert second.returncode == 0, said
    assert "going on from step" in said
    (run,) = project.runs()
    assert_complete(run, project)
    assert run.tags["pipeline.resumed"] == "1"
    assert not list((project.folder / ".dvc" / "tmp" / "sessions").iterdir())


def test_dvc_is_killed(project: Project) -> None:
    """`kill -9` of DVC alone: the training that it started saves itself; `dvc repro` goes on with it and with its run."""
    process = project.start("repro")
    caught(project)
    process.kill()
    process.wait()
    assert_saved_itself(project)
    assert "going on from step" in project.dvc("repro")
    (run,) = project.runs()
    assert_complete(run, project)


def assert_saved_itself(project: Project) -> None:
    """Training has ended by itself with a checkpoint, and its run is not left RUNNING."""
    wait_for(lambda: not trainings(project.folder), SOON, pause=0.2)
    assert saved(project)
    wait_for(lambda: project.runs()[0].status == "KILLED", SOON, pause=0.2)


def test_terminal_closes(project: Project) -> None:
    """SIGHUP, and nobody reads the output any more: training saves itself. Under nohup the same ends nothing."""
    words = [sys.executable, "-m", "stages.train"]
    process = subprocess.Popen(words, cwd=project.folder, env=project.environment(), stdout=subprocess.PIPE)
    training = caught(project)
    assert process.stdout is not None
    process.stdout.close()
    training.send_signal(signal.SIGHUP)
    process.wait()
    assert_saved_itself(project)
    process = subprocess.Popen(["nohup", *words], cwd=project.folder, env=project.environment(), stdout=subprocess.PIPE)
    wait_for(lambda: any(run.status == "RUNNING" for run in project.runs()), SOON, pause=0.2)
    process.send_signal(signal.SIGHUP)
    said, _ = process.communicate(timeout=900)
    assert process.returncode == 0
    assert b"going on from step" in said and b"trained to step" in said


@container
def test_a_sandbox_without_proc_costs_nothing(project: Project) -> None:
    """Without /proc, as in some sandboxes, training, its run and the other stages work as everywhere."""
    project.set(epochs=1)
    stages = list(pipeline.stages())[2:]  # from train on
    shell = "umount -l /proc; " + " && ".join(f"{sys.executable} -m stages.{stage}" for stage in stages)
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", shell], cwd=project.folder, env=project.environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    (run,) = project.runs()
    assert_complete(run, project, by_dvc=False)
