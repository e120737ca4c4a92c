"""The same runs on a real MLflow server: with PostgreSQL, and with one that dies."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import servers
from project import Project, assert_complete, rows_of_history, signal_group, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]  # seconds: real pipelines, perhaps on a busy machine


@pytest.fixture
def project(finished: Project, tmp_path: Path) -> Project:
    """A project whose pipeline has run, without the store that has its run."""
    project = finished.duplicate(tmp_path / "project")
    for path in project.folder.glob("mlflow.db*"):
        path.unlink()
    return project


def test_a_run_on_postgresql(project: Project, tmp_path: Path) -> None:
    """On a server with PostgreSQL a run is complete, and what `track` says leads there."""
    (tmp_path / "files").mkdir()
    with servers.postgresql() as store, servers.mlflow_server(store, tmp_path / "files") as (address, _):
        project.env["MLFLOW_TRACKING_URI"] = address
        assert f"{address}/#/experiments/" in project.python("-m", "stages.track")
        (run,) = project.runs(address)
        assert run.complete
        assert sorted(run.steps("curves/train_loss")) == rows_of_history(int(run.metrics["train/steps"]))


def test_server_killed_during_training(project: Project, tmp_path: Path) -> None:
    """Training ends normally with one warning when its server dies; with the server back, `dvc repro` completes that run.

    Its files are with the server, and nothing of it is here. What trains again is a comment in train.py: the same bytes come
    out, DVC skips the later stages, and the run is complete anyway, with the comment in its patch.
    """
    (tmp_path / "files").mkdir()
    store, port = f"sqlite:///{tmp_path}/runs.db", servers.free_port()
    project.env["MLFLOW_TRACKING_URI"] = f"http://127.0.0.1:{port}"
    path = project.folder / "stages" / "train.py"
    path.write_text(path.read_text(encoding="utf-8") + "# a comment\n", encoding="utf-8")
    with servers.mlflow_server(store, tmp_path / "files", port) as (address, server):
        process = project.start("repro")
        wait_for(lambda: project.checkpointed() or process.poll() is not None)
        signal_group(process, signal.SIGSTOP)  # training rests until its first points are stored, however fast it is
        wait_for(lambda: any(run.steps("curves/train_loss") for run in project.runs(address)), pause=0.2)
        servers.end_group(server, signal.SIGKILL)
        server.wait()
        signal_group(process, signal.SIGCONT)
        text, _ = process.communicate(timeout=900)
    assert process.returncode != 0 and "error: MLflow" in text, "track fails: there is no server"
    assert "validation perplexity" in text
    assert text.count("warning: MLflow") == 1, text
    assert "trained to step" in text
    with servers.mlflow_server(store, tmp_path / "files", port) as (address, _):
        said = project.dvc("repro")
        assert [line for line in said.splitlines() if line.startswith("Running stage")] == ["Running stage 'track':"]
        (run,) = project.runs(address)
        assert_complete(run, project)
        assert run.tags["git.dirty"] == "yes"
        assert "+# a comment" in run.text("code.patch", tmp_path)
        assert list((tmp_path / "files").rglob("samples.md"))
        assert not (project.folder / "mlflow.db").exists()
