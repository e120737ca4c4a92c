"""The same runs on a real MLflow server: with PostgreSQL, and with one that dies."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import servers
from project import Project, assert_complete, signal_group, wait_for
from reference import forget

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
        assert f"{address}/#/experiments/" in project.dvc("repro", "-f", "-s", "track")
        (run,) = project.runs(address)
        assert_complete(run, project)


def test_server_killed_during_training(project: Project, tmp_path: Path) -> None:
    """Training ends normally with one warning when its server dies; with the server back, `dvc repro` completes that run.

    Its files are with the server, and nothing of it is here.
    """
    (tmp_path / "files").mkdir()
    store, port = f"sqlite:///{tmp_path}/runs.db", servers.free_port()
    project.env["MLFLOW_TRACKING_URI"] = f"http://127.0.0.1:{port}"
    forget(project.folder, "train")
    with servers.mlflow_server(store, tmp_path / "files", port) as (address, server):
        process = project.start("repro")
        wait_for(lambda: project.checkpointed() or process.poll() is not None)
        signal_group(process, signal.SIGSTOP)  # training rests until its first points are stored, however fast it is
        wait_for(lambda: any(run.steps("curves/train_loss") for run in project.runs(address)), pause=0.2)
        servers.end_group(server, signal.SIGKILL)
        server.wait()
        signal_group(process, signal.SIGCONT)
        text, _ = process.communicate(timeout=900)
    assert process.returncode != 0, "track fails: there is no server"
    assert text.count("warning: MLflow") == 1, text
    assert "trained to step" in text
    with servers.mlflow_server(store, tmp_path / "files", port) as (address, _):
        said = project.dvc("repro")
        assert [line for line in said.splitlines() if line.startswith("Running stage")] == ["Running stage 'track':"]
        (run,) = project.runs(address)
        assert_complete(run, project)
        assert list((tmp_path / "files").rglob("samples.md"))
        assert not (project.folder / "mlflow.db").exists()


def test_password_is_not_shown(project: Project) -> None:
    """A server's address with a password in it is named without the password."""
    project.env["MLFLOW_TRACKING_URI"] = "http://someone:secret-word@127.0.0.1:9"
    said = project.dvc("repro", "-f", "-s", "track", ok=False)
    assert "secret-word" not in said
    assert "http://127.0.0.1:9" in said
