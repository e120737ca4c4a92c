"""Every point of a sweep is a run of its name, the current value's too; a store that was deleted says what to type."""

from __future__ import annotations

from pathlib import Path

import pytest
from project import LoggedRun, Project, assert_complete, wait_for

from stages.common.params import read_yaml

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),  # seconds: real pipelines, perhaps on a busy machine
    pytest.mark.kind("sweeps, deleted runs, deleted store"),
]
RECORD = "from stages.tracking import unrecorded; print(unrecorded.record())"
UI = "import argparse, os; os.execve = print; from tools import ui; ui.main(argparse.Namespace(port=5000))"


@pytest.fixture(scope="module")
def project(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose pipeline has run once, with the result committed."""
    return finished.duplicate(tmp_path_factory.mktemp("sweep") / "project")


def queue(project: Project, *words: str) -> set[str]:
    """Run queued experiments one after the other: the names of all experiments then."""
    project.dvc("exp", "run", "--queue", *words)
    assert "Queued" in project.queue()
    project.start("queue", "start").wait()  # without what it says: its worker, which ends later, holds the pipe
    wait_for(lambda: {"Success", "Failed"} >= set(project.queue()), pause=0.5)
    assert set(project.queue()) == {"Success"}
    return set(project.dvc("exp", "list", "--name-only").split())


def named(project: Project) -> dict[str, LoggedRun]:
    """The runs of experiments, by name; no name twice."""
    runs = project.runs()[1:]
    assert len({run.name for run in runs}) == len(runs)
    return {run.name: run for run in runs}


@pytest.mark.readme("dvc exp run --queue -S 'learning_rate=0.0015,0.003,0.006' && dvc queue start")
def test_each_point_of_a_sweep_is_a_run(project: Project, tmp_path: Path) -> None:
    """Two points, one of which changes nothing: two experiments in DVC, the same two names in MLflow, both complete."""
    current = read_yaml((project.folder / "params.yaml").read_text(encoding="utf-8"))["learning_rate"]
    names = queue(project, "-S", f"learning_rate={current},0.001")
    assert len(names) == 2
    runs = named(project)
    if len(runs) == 1:  # the point that changes nothing came last: nobody was there to see it
        project.python("-c", RECORD)
        runs = named(project)
    assert set(runs) == names
    assert {run.params["learning_rate"] for run in runs.values()} == {str(current), "0.001"}
    for run in runs.values():
        assert_complete(run, project)
    (same,) = [run for run in runs.values() if run.params["learning_rate"] == str(current)]
    assert set(same.stages().values()) == {"cached"}
    assert same.tags["trained_by"] == project.runs()[0].id
    assert same.tags["git.dirty"] == "no", "so its commit, params and command give it again: they are this checkout's"
    assert same.tags["command"].endswith("&& dvc repro")
    assert same.text("params.yaml", tmp_path) == (project.folder / "params.yaml").read_text(encoding="utf-8")
    lock = (project.folder / "dvc.lock").read_text(encoding="utf-8")
    assert lock.startswith(same.text("dvc.lock", tmp_path)), "a run keeps it as it was before `track`"
    same.client.delete_run(same.id)
    assert project.python("-c", RECORD).splitlines()[-1] == "[]", "what a user deleted stays deleted"


def test_after_the_store_is_deleted_the_result_can_be_recorded_again(project: Project) -> None:
    """Without mlflow.db `dvc repro` has nothing to do; `make ui` says how to record the result again, and that works."""
    (project.folder / "mlflow.db").unlink()
    assert "dvc repro -f -s track" in project.python("-c", UI)
    project.dvc("repro", "-f", "-s", "track")
    run, *_ = project.runs()  # first; then the experiments with the same results that DVC still lists, each under its name
    assert_complete(run, project)
    assert "dvc repro -f" not in project.python("-c", UI)
    assert Path(project.folder / "mlruns" / run.id).is_dir()
