"""An experiment that starts from a trained network: one complete run, for a colleague too, and made again to the byte."""

from __future__ import annotations

from pathlib import Path

import pytest
from project import Project, assert_complete, ran
from repository import git

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]  # seconds: real pipelines, perhaps on a busy machine
FURTHER = ("init_from=data/train/model", "keep=best", "epochs=1", "learning_rate=0.001", "min_learning_rate=1/10")


def test_a_finished_network_is_trained_further(finished: Project, tmp_path: Path) -> None:
    """From the network that lies in data/train/model, which the experiment replaces: the run names the bits that it started
    from, a clone gets them by `dvc pull` and only looks for its data set, and `make reproduce` starts from them again."""
    project = finished.duplicate(tmp_path / "project")
    project.dvc("exp", "run", "-n", "further", *(word for change in FURTHER for word in ("-S", change)))
    run = project.runs()[-1]
    assert_complete(run, project)
    assert run.tags["md5.init"].endswith(".dir")
    assert run.params["init_from"] == "data/train/model"
    improvement = {"evaluate/initial_perplexity", "evaluate/initial_perplexity_low", "evaluate/gain_over_initial"}
    assert improvement | {"train/best_step", "train/best_val_loss"} <= set(run.metrics)
    assert 0 in run.steps("curves/val_loss")

    said = project.python("-m", "tools.reproduce", "further")
    assert "identical: every output" in said

    project.commit()
    project.dvc("push")
    git(project.folder, "clone", "-q", str(project.folder), str(tmp_path / "clone"))
    clone = Project(tmp_path / "clone", {"HF_HUB_OFFLINE": "1"})
    clone.dvc("pull")
    assert (clone.folder / "data/download/init/model.safetensors").is_file()
    assert ran(clone.dvc("repro")) == ["identify"]
    assert "up to date" in clone.dvc("repro")
    assert not clone.runs()
