"""DVC dies, its container gets another name, its terminal closes: training saves itself, and its run goes on as one run."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import psutil
import pytest
from project import Project, assert_complete, container, rows_of_history, runs_stage, wait_for
from reference import forget

from stages.tracking import pipeline

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),  # seconds: real pipelines, perhaps on a busy machine
    pytest.mark.kind("DVC, container or terminal gone"),
]
SOON = 60  # seconds for what takes a few on an idle machine
LONG = {"epochs": 12, "eval_every": 0, "checkpoint_every": 100_000}  # caught in the middle; it saves itself only when it stops


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


def caught(project: Project, others: int = 0) -> list[psutil.Process]:
    """Wait until a training has a step in the store, and let it rest there (SIGSTOP).

    Until then it runs a twenty-fifth of the time: its log takes seconds to open, and the training is to be in the middle
    afterwards.

    Args:
        others: how many trainings rest there already.
    """
    wait_for(lambda: len(list((project.folder / ".checkpoints").glob("*/"))) > others, SOON, pause=0.05)
    found = [process for process in trainings(project.folder) if process.status() != psutil.STATUS_STOPPED]
    assert found, "it has ended"
    while logged(project) <= others:
        act(found, signal.SIGCONT)
        time.sleep(0.02)
        act(found, signal.SIGSTOP)
        time.sleep(0.48)
    return found


def act(processes: list[psutil.Process], number: signal.Signals) -> None:
    """Send a signal to each; they must be there."""
    for process in processes:
        process.send_signal(number)


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
    act(caught(project), signal.SIGCONT)
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
    assert sorted(run.steps("train_loss")) == rows_of_history(int(run.metrics["steps"]))
    assert not list((project.folder / ".dvc" / "tmp" / "sessions").iterdir())


@container
def test_two_containers_of_one_name(project: Project) -> None:
    """Two experiments at once in containers of one host name, with the same process numbers: neither calls the other dead."""
    both, resting = [], []
    for rate in ("0.001", "0.002"):
        words = ("exp", "run", "--temp", "-n", f"rate-{rate}", "-S", f"learning_rate={rate}")
        both.append(project.start(*words, container="twin"))
        resting += caught(project, len(resting))
    assert [run.status for run in project.runs()] == ["RUNNING", "RUNNING"], [process.poll() for process in both]
    act(resting, signal.SIGCONT)
    said = [process.communicate(timeout=900)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    runs = project.runs()
    assert {run.name for run in runs} == {"rate-0.001", "rate-0.002"}
    for run in runs:
        assert run.complete and run.status == "FINISHED"
        assert "pipeline.resumed" not in run.tags


def assert_goes_on(project: Project) -> None:
    """Training has ended by itself with a checkpoint, its run is not left RUNNING; `dvc repro` goes on with both."""
    wait_for(lambda: not trainings(project.folder), SOON, pause=0.2)
    assert saved(project), "it saved itself"
    wait_for(lambda: project.runs()[0].status == "KILLED", SOON, pause=0.2)
    said = project.dvc("repro")
    assert "going on from step" in said
    (run,) = project.runs()
    assert_complete(run, project)
    assert sorted(run.steps("train_loss")) == rows_of_history(int(run.metrics["steps"]))


def test_dvc_is_killed(project: Project) -> None:
    """`kill -9` of DVC alone: the training that it started saves itself and ends within seconds."""
    process = project.start("repro")
    training = caught(project)
    process.kill()
    process.wait()
    act(training, signal.SIGCONT)
    assert_goes_on(project)


def test_terminal_closes(project: Project) -> None:
    """SIGHUP to all, and nobody reads the output any more: training saves itself, as on SIGTERM."""
    process = project.start("repro")
    training = caught(project)
    assert process.stdout is not None
    process.stdout.close()
    os.killpg(process.pid, signal.SIGHUP)
    act(training, signal.SIGCONT)
    process.wait()
    assert_goes_on(project)


def test_nohup(project: Project) -> None:
    """Under nohup the end of the terminal ends nothing."""
    words = ["nohup", sys.executable, "-m", "stages.train"]
    process = subprocess.Popen(words, cwd=project.folder, env=project.environment(), stdout=subprocess.PIPE, text=True)
    training = caught(project)
    act(training, signal.SIGHUP)
    act(training, signal.SIGCONT)
    said, _ = process.communicate(timeout=900)
    assert process.returncode == 0
    assert "trained to step" in said


def test_queue_kill(project: Project) -> None:
    """`dvc queue kill` of a running experiment: its training saves itself and ends; queued again it goes on as the same run."""
    words = ("exp", "run", "--queue", "-n", "queued")
    project.dvc(*words)
    worker = project.start("queue", "start")
    training = caught(project)
    project.dvc("queue", "kill", "--force", "queued")
    act(training, signal.SIGCONT)
    wait_for(lambda: not trainings(project.folder), SOON, pause=0.2)
    assert saved(project)
    assert worker.wait() == 0
    wait_for(lambda: project.runs()[0].status == "KILLED", SOON, pause=0.2)
    project.dvc("queue", "remove", "--all")
    project.dvc(*words)
    project.dvc("queue", "start")
    wait_for(lambda: {"Success", "Failed"} >= set(project.queue()), pause=0.5)
    (run,) = project.runs()
    assert run.complete, project.dvc("queue", "logs", "queued")
    assert run.name == "queued"
    assert sorted(run.steps("train_loss")) == rows_of_history(int(run.metrics["steps"]))


@container
def test_without_proc(project: Project) -> None:
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
