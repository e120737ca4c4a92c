"""What people look at: the runs on MLflow's server, DVC's tables and plots."""

from __future__ import annotations

import sys
import urllib.request
from pathlib import Path

import pytest
import servers
from project import EXPERIMENT, Project

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]  # seconds: real pipelines, perhaps on a busy machine


@pytest.fixture(scope="module")
def project(experimented: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with its first run and an experiment with fewer stories."""
    return experimented.duplicate(tmp_path_factory.mktemp("pages") / "project")


@pytest.mark.readme("make ui")
@pytest.mark.parametrize(
    "command", [("-m", "mlflow", "ui", "--workers", "1"), ("-m", "tools.ui")], ids=["mlflow ui", "make ui"]
)
def test_server_shows_the_runs(command: tuple[str, ...], project: Project, tmp_path: Path) -> None:
    """A plain `mlflow ui` in the project's folder, and `make ui`, show every run with its curves and files."""
    from mlflow import MlflowClient

    port = servers.free_port()
    address = f"http://127.0.0.1:{port}"
    words = [sys.executable, *command, "--port", str(port)]
    environment = {**project.environment(), **servers.LIGHT}
    with servers.running(words, lambda: servers.healthy(address), tmp_path / "log", cwd=project.folder, env=environment):
        client = MlflowClient(address)
        found = client.search_runs([client.get_experiment_by_name("gpt2-from-scratch").experiment_id])
        assert len(found) == 2
        assert EXPERIMENT in {run.info.run_name for run in found}
        for run in found:
            for curve in ("curves/train_loss", "curves/val_loss"):
                assert len(client.get_metric_history(run.info.run_id, curve)) > 1
            query = f"path=samples/samples.md&run_uuid={run.info.run_id}"
            with urllib.request.urlopen(f"{address}/get-artifact?{query}", timeout=60) as answer:
                assert b"Once upon a time" in answer.read()
    assert address in (tmp_path / "log").read_text(encoding="utf-8"), "it says where it is"


def test_dvc_compares_two_commits(project: Project) -> None:
    """`dvc plots diff` draws the curves of both by step, epoch and position in the context; `dvc metrics diff` has both."""
    project.dvc("plots", "diff", "main", EXPERIMENT, "-o", "plots")
    page = (project.folder / "plots" / "index.html").read_text(encoding="utf-8")
    for title in ("Training loss", "Validation loss", "Loss by epoch", "Validation loss by position in the context"):
        assert title in page
    assert page.count('"main"') >= 4
    assert page.count(f'"{EXPERIMENT}"') >= 4
    said = project.dvc("metrics", "diff", "main", EXPERIMENT)
    assert "perplexity" in said and EXPERIMENT in said
