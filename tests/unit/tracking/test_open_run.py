"""Which run an experiment opens, beside experiments that end at the same moment. Real MLflow."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from stage_runs import environment

from stages.tracking import liveness, run, store


@pytest.mark.usefixtures("own_store")
@pytest.mark.parametrize("epochs", [1, 2])
def test_a_run_that_is_completed_while_others_are_looked_through(epochs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """An experiment beside ours, the same or another, completes its run and ends: it stays FINISHED, and is not resumed."""
    other = run.open_run({"epochs": epochs}, f"host:{os.getpid()}:other", "other")

    def ends(name: str, ours: bool) -> bool:
        other.finish("FINISHED")
        other.tag({run.COMPLETE: "yes"})
        return True

    monkeypatch.setattr(liveness, "is_dead", ends)
    ours = run.open_run({"epochs": 1}, f"host:{os.getpid()}:ours", "ours")
    assert ours.id != other.id
    assert ours.client.get_run(other.id).info.status == "FINISHED"


@pytest.mark.parametrize("shared", [True, False])
def test_a_copied_lock_file_says_nothing(
    shared: bool, tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a store that others use too, a run of another checkout is not resumed here, even if its lock file is here."""
    runs = (tmp_path if shared else tmp_path / "copy") / "runs.db"
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "copy"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{runs}")
    (tmp_path / "copy/.dvc/tmp/sessions").mkdir(parents=True)
    shutil.copyfile(empty_store, runs)
    (tmp_path / "copy/.dvc/tmp/sessions/host-1-other.lock").touch()
    client, experiment = store.connect()
    tags = {run.SESSION: "host:1:other", run.FINGERPRINT: "mine", run.COMPLETE: "no", run.CHECKOUT_TAG: "/original"}
    client.create_run(experiment, tags=tags)
    ours = {run.SESSION: "host:2:ours", run.FINGERPRINT: "mine", run.CHECKOUT_TAG: str(tmp_path / "copy")}
    assert (run._left_open(client, experiment, ours) is None) is shared


@pytest.mark.usefixtures("own_store")
def test_a_live_run_is_not_joined_and_a_dead_one_goes_on() -> None:
    """Two sessions with one experiment: two runs while the first lives; its run is resumed once it is dead, on any host."""
    process = subprocess.Popen(["sleep", "600"])
    first = run.open_run({"epochs": 1}, f"host:{process.pid}:first", "first")
    assert run.open_run({"epochs": 1}, f"host:{process.pid}:first", "first").id == first.id
    second = run.open_run({"epochs": 1}, f"host:{os.getpid()}:second", "second")
    assert second.id != first.id
    process.kill()
    process.wait()
    while not liveness.is_dead(f"host:{process.pid}:first", ours=True):
        time.sleep(0.05)
    third = run.open_run({"epochs": 1}, f"another-host:{os.getpid()}:third", "third")
    assert third.id == first.id
    assert third.client.get_run(third.id).data.tags["pipeline.resumed"] == "1"


@pytest.mark.slow
def test_two_processes_make_one_store(tmp_path: Path) -> None:
    """Two experiments of a queue that begin at the same moment, before there is a store: it is made once, for both."""
    words = [sys.executable, "-c", "from stages.tracking import store; print(store.connect()[1])"]
    env = environment(tmp_path, MLFLOW_TRACKING_URI=f"sqlite:///{tmp_path}/mlflow.db")
    both = [subprocess.Popen(words, cwd=tmp_path, env=env, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=300)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert said[0] == said[1] != ""
