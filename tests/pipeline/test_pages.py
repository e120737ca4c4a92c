"""What people look at: the runs on MLflow's server, DVC's tables and plots."""

from __future__ import annotations

import sys
import urllib.request
from pathlib import Path

import pytest
import servers
from project import Project
from stage_runs import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]  # seconds: real pipelines, perhaps on a busy machine
SIZES = (30, 60)  # the second is the size that has run already


@pytest.fixture(scope="module")
def project(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with its first run and two experiments that differ in the number of stories."""
    project = finished.duplicate(tmp_path_factory.mktemp("pages") / "project")
    for size in SIZES:
        project.dvc("exp", "run", "-n", f"stories-{size}", "-S", f"max_samples={size}")
    return project


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
        assert len(found) == 1 + len(SIZES)
        assert {run.info.run_name for run in found} >= {f"stories-{size}" for size in SIZES}
        for run in found:
            for curve in ("train_loss", "val_loss"):
                assert len(client.get_metric_history(run.info.run_id, curve)) > 1
            query = f"path=samples/samples.md&run_uuid={run.info.run_id}"
            with urllib.request.urlopen(f"{address}/get-artifact?{query}", timeout=60) as answer:
                assert b"Once upon a time" in answer.read()


def test_table_of_experiments(project: Project) -> None:
    """`make compare` shows each experiment's param that differs and its perplexity, and no checksum column."""
    recipe = _recipe("compare").split("@dvc ")[1].replace("\\", "")
    words = [word.strip("'") for word in recipe.split()]
    said = project.dvc(*words)
    for size in SIZES:
        assert f"stories-{size}" in said
    assert "max_samples" in said
    assert "perplexity" in said
    assert "data/" not in said.replace("data/evaluate/metrics.json", "").replace("data/train/metrics.json", "")


def _recipe(target: str) -> str:
    """The lines of a target in the Makefile, joined."""
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    return text.split(f"\n{target}:")[1].split("\n\n")[0].replace("\\\n", " ").split("\n", 1)[1]


def test_plots_of_two_experiments(project: Project) -> None:
    """`dvc plots diff` draws both experiments' curves: by step, by epoch, by position in the context."""
    project.dvc("plots", "diff", "stories-30", "stories-60", "-o", "plots")
    page = (project.folder / "plots" / "index.html").read_text(encoding="utf-8")
    for title in ("Training loss", "Validation loss", "Loss by epoch", "Validation loss by position in the context"):
        assert title in page
    assert page.count('"stories-30"') >= 4
    assert page.count('"stories-60"') >= 4


def test_metrics_of_two_experiments(project: Project) -> None:
    """`dvc metrics diff` has the perplexities of both."""
    said = project.dvc("metrics", "diff", "stories-30", "stories-60")
    assert "perplexity" in said
    assert "stories-30" in said
