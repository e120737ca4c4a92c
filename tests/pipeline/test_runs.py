"""One DVC experiment is one complete MLflow run, however it was started. Real DVC, real MLflow, a tiny network.

Each test has a copy of a project in which everything has run once, and looks at the runs that it adds.
"""

from __future__ import annotations

import argparse
import shutil
import signal
from pathlib import Path

import pytest
from project import LoggedRun, Project, assert_complete, assert_watched, rows_of_history, signal_group, wait_for
from reference import forget

from stages.common.errors import UserError
from tools import explore

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]  # seconds: real pipelines, perhaps on a busy machine
CPU = "system/cpu_utilization_percentage"


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


def interrupt(project: Project, news: News, number: signal.Signals, *words: str) -> None:
    """Start a DVC command, wait for a new checkpoint and for points in MLflow, then send the signal to the whole group."""
    before = project.saved()
    process = project.start(*words)
    wait_for(lambda: project.saved() > before or process.poll() is not None)
    signal_group(process, signal.SIGSTOP)  # training rests while its log is looked at, however fast it is
    wait_for(lambda: any(run.steps("curves/train_loss") and run.steps(CPU) for run in news.runs()), pause=0.2)
    signal_group(process, number)
    signal_group(process, signal.SIGCONT)
    text, _ = process.communicate(timeout=900)
    assert process.returncode, text
    wait_for(lambda: news.only().status == "KILLED", pause=0.2)  # set by the process that logs
    assert not news.only().complete


def test_first_repro_is_one_complete_run(finished: Project) -> None:
    """The first `make repro` makes one run with everything in it, and ends with a summary that names it."""
    (run,) = finished.runs()
    assert_complete(run, finished)
    assert_watched(run)
    assert set(run.stages().values()) == {"ran"}
    assert run.tags["git.dirty"] == "no"
    assert "code.patch" not in run.artifacts()
    assert run.id in finished.said
    for word in ("parameters", "perplexity", "95 % interval", "floor", "make ui", "dvc exp run"):
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

    The curve of the new run is in the files. A second `dvc repro` then does nothing and adds no run.
    """
    (project.folder / "dvc.lock").unlink()  # as after other experiments: only DVC's run cache knows of the training
    shutil.rmtree(project.folder / "data" / "train")
    news = News(project)
    said = project.dvc("exp", "run", "-n", "cold", "-S", "temperature=0.5")
    assert "Running stage 'train'" not in said
    run = news.only()
    assert_complete(run, project)
    assert run.name == "cold"
    ran = {stage for stage, how in run.stages().items() if how == "ran"}
    assert ran - {"identify"} == {"generate"}  # without dvc.lock, identify looks at the data set again
    assert run.params["temperature"] == "0.5"
    assert run.tags["trained_by"] == project.runs()[0].id
    assert run.tags["command"].endswith("dvc exp run -S temperature=0.5")
    assert "up to date" in project.dvc("repro")
    assert news.only().id == run.id


def test_training_without_a_store_gets_its_run_later(project: Project) -> None:
    """Without a server training ends well, with one warning; `track` says what to do; then `dvc repro` runs only track.

    What trains again here is a comment in train.py: the same bytes come out, DVC skips the later stages, and the run is
    complete anyway.
    """
    news, path = News(project), project.folder / "stages" / "train.py"
    path.write_text(path.read_text(encoding="utf-8") + "# a comment\n", encoding="utf-8")
    project.env["MLFLOW_TRACKING_URI"] = "http://127.0.0.1:9"
    said = project.dvc("repro", ok=False)
    del project.env["MLFLOW_TRACKING_URI"]
    assert said.count("warning: MLflow") == 1
    assert "http://127.0.0.1:9" in said
    assert "error: MLflow" in said
    assert "validation perplexity" in said
    assert not news.runs()
    said = project.dvc("repro")
    assert [line for line in said.splitlines() if line.startswith("Running stage")] == ["Running stage 'track':"]
    run = news.only()
    assert_complete(run, project)
    assert run.tags["git.dirty"] == "yes"
    assert "+# a comment" in run.text("code.patch", project.folder / ".dvc" / "tmp")


def test_interrupted_and_killed_training_stays_one_run(project: Project) -> None:
    """Ctrl-C, then kill -9 of DVC and training: `dvc repro` resumes both each time, no point twice, none missing."""
    news = News(project)
    forget(project.folder, "train")
    interrupt(project, news, signal.SIGINT, "repro")
    interrupted = news.only()
    interrupt(project, news, signal.SIGKILL, "repro")
    assert "from step" in project.dvc("repro")
    run = news.only()
    assert run.id == interrupted.id
    assert_complete(run, project)
    assert_watched(run)
    assert run.tags["pipeline.resumed"] == "2"
    for key in (CPU, "system/system_memory_usage_megabytes", "system/disk_usage_percentage"):
        steps = run.steps(key)
        assert steps, key
        assert len(steps) == len(set(steps)), f"{key}: doubled points"


def test_killed_temporary_experiment_stays_one_run(project: Project) -> None:
    """`dvc exp run --temp`, killed and started again: one run, in the main checkout's store."""
    news = News(project)
    forget(project.folder, "train")
    words = ("exp", "run", "--temp", "-n", "temporary")
    interrupt(project, news, signal.SIGKILL, *words)
    project.dvc(*words)
    run = news.only()
    assert run.name == "temporary"
    assert run.complete
    assert sorted(run.steps("curves/train_loss")) == rows_of_history(int(run.metrics["train/steps"]))


@pytest.mark.readme("dvc exp run --queue -S 'learning_rate=0.0015,0.003,0.006' && dvc queue start")
def test_queue_of_two_into_an_empty_store(project: Project) -> None:
    """Two queued experiments, two workers, no store yet: both runs are complete, in one store."""
    for path in [*project.folder.glob("mlflow.db*"), *project.folder.glob("mlruns/*/")]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    project.dvc("exp", "run", "--queue", "-S", "learning_rate=0.001,0.003", "-S", "epochs=1")
    project.dvc("queue", "start", "-j", "2")
    wait_for(lambda: {"Success", "Failed"} >= set(project.queue()), pause=0.5)
    assert project.queue() == ["Success"] * 2
    one, two = project.runs()
    for run in (one, two):
        assert_complete(run, project)
    assert {one.params["learning_rate"], two.params["learning_rate"]} == {"0.001", "0.003"}
    assert one.name != two.name


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
