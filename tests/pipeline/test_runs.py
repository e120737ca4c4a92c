"""One DVC experiment is one complete MLflow run, however it was started. Real DVC, real MLflow, a tiny network.

Each test has a copy of a project in which everything has run once, and looks at the runs that it adds.
"""

from __future__ import annotations

import argparse
import shutil
import signal
from pathlib import Path

import pytest
from project import LoggedRun, Project, assert_complete, assert_watched, ran, rows_of_history, signal_group, wait_for
from reference import forget
from repository import STAGES

from stages.common.errors import UserError
from tools import explore

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]  # seconds: real pipelines, perhaps on a busy machine


@pytest.fixture
def project(finished: Project, tmp_path: Path) -> Project:
    """A project whose pipeline has run once, with the result committed."""
    return finished.duplicate(tmp_path / "project")


class News:
    """The runs that were added since."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.known = {run.id for run in project.runs()}

    def runs(self) -> list[LoggedRun]:
        return [run for run in self.project.runs() if run.id not in self.known]

    def only(self) -> LoggedRun:
        """The one new run."""
        (run,) = self.runs()
        return run


@pytest.mark.readme("make repro")
def test_first_repro_is_one_complete_run(finished: Project) -> None:
    """The first `make repro` runs every stage and makes one run with everything in it; it ends with a summary that names it."""
    (run,) = finished.runs()
    assert_complete(run, finished)
    assert_watched(run)
    assert set(run.stages().values()) == {"ran"}
    assert run.tags["git.dirty"] == "no"
    assert "code.patch" not in run.artifacts()
    assert run.id in finished.said
    assert ran(finished.said) == list(STAGES)
    for word in ("parameters", "perplexity", "95 % interval", "floor", "»", "MLflow run:", "make ui", "dvc exp run"):
        assert word in finished.said


def test_explore_fetches_the_page_of_a_run(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    """`make explore RUN=...` finds a run by its name or the beginning of its id, and has the very page that the run keeps."""
    (run,) = project.runs()
    page = (project.folder / "data/explain/explorer.html").read_bytes()
    with project.inside():
        for name in (run.name, run.id[:8], None):
            explore.main(argparse.Namespace(run=name, no_browser=True))
            assert Path(capsys.readouterr().out.splitlines()[0]).read_bytes() == page
        with pytest.raises(UserError, match="no run 'nobody'"):
            explore.of_run("nobody")


@pytest.mark.readme("dvc exp run -S temperature=0.7")
def test_experiment_takes_its_training_from_the_cache(project: Project) -> None:
    """Another temperature: what ran before comes from DVC's run cache, only `generate` runs, and the run is complete.

    The curve of the new run is in the files.
    """
    (project.folder / "dvc.lock").unlink()  # as after other experiments: only DVC's run cache knows of the training
    shutil.rmtree(project.folder / "data" / "train")
    news = News(project)
    said = project.dvc("exp", "run", "-n", "cold", "-S", "temperature=0.5")
    assert "Running stage 'train'" not in said
    run = news.only()
    assert_complete(run, project)
    assert run.name == "cold"
    at_work = {stage for stage, how in run.stages().items() if how == "ran"}
    assert at_work - {"identify"} == {"generate"}  # without dvc.lock, identify looks at the data set again
    assert run.params["temperature"] == "0.5"
    assert run.tags["trained_by"] == project.runs()[0].id
    assert run.tags["command"].endswith("dvc exp run -S temperature=0.5")


def test_killed_temporary_experiment_stays_one_run(project: Project) -> None:
    """`dvc exp run --temp`, killed and started again: one run, in the main checkout's store."""
    news = News(project)
    forget(project.folder, "train")
    words = ("exp", "run", "--temp", "-n", "temporary")
    process = project.start(*words)
    wait_for(lambda: project.checkpointed() or process.poll() is not None)
    signal_group(process, signal.SIGSTOP)  # training rests while its log is looked at, however fast it is
    wait_for(lambda: any(run.steps("curves/train_loss") for run in news.runs()), pause=0.2)
    signal_group(process, signal.SIGKILL)
    process.communicate()
    wait_for(lambda: news.only().status == "KILLED", pause=0.2)  # set by the process that logs
    project.dvc(*words)
    run = news.only()
    assert run.name == "temporary"
    assert run.complete
    assert sorted(run.steps("curves/train_loss")) == rows_of_history(int(run.metrics["train/steps"]))


def test_failed_training_stays_failed(project: Project) -> None:
    """A training that diverges leaves a failed run, and the next training, with other params, gets a run of its own.

    Both are started by hand: `python -m stages.train`, then `stages.track`, give a complete run without DVC's checksums.
    """
    news, before = News(project), (project.folder / "params.yaml").read_text(encoding="utf-8")
    project.set(learning_rate=100.0, weight_decay=1.0, grad_clip=0.0, warmup_steps=0)  # each step: weights x -99
    assert "error" in project.python("-m", "stages.train", ok=False)
    assert news.only().status == "FAILED"
    assert not news.only().complete
    (project.folder / "params.yaml").write_text(before, encoding="utf-8")
    for stage in ("train", "track"):
        project.python("-m", f"stages.{stage}")
    failed, good = news.runs()
    assert (failed.status, failed.complete) == ("FAILED", False)
    assert_complete(good, project, by_dvc=False)
    assert_watched(good)
    assert sorted(good.steps("curves/train_loss")) == rows_of_history(int(good.metrics["train/steps"]))
