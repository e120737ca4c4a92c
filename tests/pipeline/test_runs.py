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


def interrupt(project: Project, news: News, number: signal.Signals, *words: str) -> str:
    """Start, wait for a checkpoint and for the first points in MLflow, then send the signal to the whole group."""
    shutil.rmtree(project.folder / ".checkpoints", ignore_errors=True)
    process = project.start(*words)
    wait_for(lambda: project.checkpointed() or process.poll() is not None)
    signal_group(process, signal.SIGSTOP)  # training rests while its log is looked at, however fast it is
    wait_for(lambda: any(run.steps("train_loss") and run.steps(CPU) for run in news.runs()), pause=0.2)
    signal_group(process, number)
    signal_group(process, signal.SIGCONT)
    text, _ = process.communicate(timeout=900)
    assert process.returncode, text
    return text


def test_first_repro_is_one_complete_run(project: Project) -> None:
    """The first `make repro` makes one run with everything in it, and ends with a summary that names it."""
    (run,) = project.runs()[:1]
    assert_complete(run, project)
    assert_watched(run)
    assert set(run.stages().values()) == {"ran"}
    assert run.tags["git.dirty"] == "no"
    assert "code.patch" not in run.artifacts()
    said = project.said
    assert run.id in said
    for word in ("parameters", "perplexity", "95 % interval", "floor", "make ui", "dvc exp run"):
        assert word in said


def test_explore_fetches_the_page_of_a_run(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    """`make explore RUN=...` finds a run by its name or the beginning of its id, and has the very page that the run keeps."""
    (run,) = project.runs()[:1]
    page = (project.folder / "data/explain/explorer.html").read_bytes()
    said = project.python("-m", "tools.explore", run.name, "--no-browser")
    assert Path(said.splitlines()[0]).read_bytes() == page
    with project.inside():
        for name in (run.id[:8], None):
            explore.main(argparse.Namespace(run=name, no_browser=True))
            assert Path(capsys.readouterr().out.splitlines()[0]).read_bytes() == page
        with pytest.raises(UserError, match="no run 'nobody'"):
            explore.of_run("nobody")


def test_nothing_to_do_makes_no_run(project: Project) -> None:
    """A second `dvc repro` does nothing and adds no run."""
    news = News(project)
    assert "up to date" in project.dvc("repro")
    assert not news.runs()


def test_experiment_from_cached_training(project: Project) -> None:
    """A change of temperature runs generate and what shows it only, and the new run is complete: the curve is in the files."""
    news = News(project)
    said = project.dvc("exp", "run", "-n", "cold", "-S", "temperature=0.5")
    run = news.only()
    assert_complete(run, project)
    assert run.name == "cold"
    assert run.stages() == dict.fromkeys(("download", "tokenize", "train", "evaluate"), "cached") | {
        "generate": "ran",
        "explain": "ran",
    }
    assert run.params["temperature"] == "0.5"
    assert run.tags["trained_by"] == project.runs()[0].id
    assert "Running stage 'train'" not in said
    assert run.tags["command"].endswith("dvc exp run -S temperature=0.5")


def test_forced_repro_is_a_run_of_its_own(project: Project) -> None:
    """`dvc repro -f` trains again: a new run, and the same bytes."""
    news, lock = News(project), (project.folder / "dvc.lock").read_bytes()
    project.dvc("repro", "-f")
    assert_complete(news.only(), project)
    assert (project.folder / "dvc.lock").read_bytes() == lock


def test_forced_training_is_a_run_that_is_completed(project: Project) -> None:
    """`dvc repro -f train` makes the same bytes; the next `dvc repro` completes the run that it began."""
    news = News(project)
    project.dvc("repro", "-f", "-s", "train")
    assert news.only().tags["pipeline.complete"] == "no"
    project.dvc("repro")
    assert_complete(news.only(), project)


def test_comment_in_the_code(project: Project) -> None:
    """A comment in train.py retrains to the same bytes; DVC then skips the later stages, and the run is complete anyway."""
    news, path = News(project), project.folder / "stages" / "train.py"
    text = path.read_text(encoding="utf-8")
    path.write_text(text + "# a comment\n", encoding="utf-8")
    project.dvc("repro")
    run = news.only()
    assert_complete(run, project)
    assert run.stages()["train"] == "ran"
    assert run.stages()["evaluate"] == "cached"
    assert run.tags["git.dirty"] == "yes"
    assert "+# a comment" in run.text("code.patch", project.folder / ".dvc" / "tmp")
    path.write_text(text, encoding="utf-8")


def test_killed_and_resumed_is_one_run(project: Project) -> None:
    """After kill -9 of DVC and training, the next `dvc repro` resumes checkpoint and run: no point twice, none missing."""
    news = News(project)
    forget(project.folder, "train")
    interrupt(project, news, signal.SIGKILL, "repro")
    killed = news.only()
    wait_for(lambda: news.only().status == "KILLED", pause=0.2)  # set by the process that logs
    assert not killed.complete
    assert "going on from step" in project.dvc("repro")
    run = news.only()
    assert run.id == killed.id
    assert_complete(run, project)
    assert_watched(run)
    assert run.tags["pipeline.resumed"] == "1"
    for key in (CPU, "system/system_memory_usage_megabytes", "system/disk_usage_percentage"):
        steps = run.steps(key)
        assert steps, key
        assert len(steps) == len(set(steps)), f"{key}: doubled points"


def test_interrupted_and_resumed_is_one_run(project: Project) -> None:
    """Ctrl-C marks the run as killed; the next `dvc repro` goes on with it."""
    news = News(project)
    forget(project.folder, "train")
    interrupt(project, news, signal.SIGINT, "repro")
    killed = news.only()
    assert killed.status == "KILLED"
    project.dvc("repro")
    assert news.only().id == killed.id
    assert_complete(news.only(), project)
    assert_watched(news.only())


def test_temporary_experiment_resumes(project: Project) -> None:
    """`dvc exp run --temp`, killed and started again: one run, in the main checkout's store."""
    news = News(project)
    forget(project.folder, "train")
    words = ("exp", "run", "--temp", "-n", "temporary")
    interrupt(project, news, signal.SIGKILL, *words)
    project.dvc(*words)
    run = news.only()
    assert run.name == "temporary"
    assert run.complete
    assert sorted(run.steps("train_loss")) == rows_of_history(int(run.metrics["steps"]))


def test_same_experiment_again_comes_from_cache(project: Project) -> None:
    """An experiment with params that ran before, under a new name: nothing is trained, the run is new and complete."""
    (project.folder / "dvc.lock").unlink()  # as after other experiments: only DVC's run cache knows of it
    shutil.rmtree(project.folder / "data" / "train")
    news = News(project)
    said = project.dvc("exp", "run", "-n", "again")
    run = news.only()
    assert_complete(run, project)
    assert run.stages()["train"] == "cached"  # generate is not in the run cache: its samples.md is in git instead
    assert run.name == "again"
    assert "Running stage 'train'" not in said


def test_queue_of_two_from_an_empty_store(tmp_path: Path) -> None:
    """Two queued experiments, two workers, no store and no data yet: both runs are complete, in one store."""
    project = Project.copy(tmp_path)
    project.dvc("exp", "run", "--queue", "-S", "learning_rate=0.001,0.003")
    project.dvc("queue", "start", "-j", "2")
    wait_for(lambda: {"Success", "Failed"} >= set(project.queue()), pause=0.5)
    assert project.queue() == ["Success"] * 2
    one, two = project.runs()
    for run in (one, two):
        assert_complete(run, project)
    assert {one.params["learning_rate"], two.params["learning_rate"]} == {"0.001", "0.003"}
    assert one.name != two.name


def test_store_away_and_back(project: Project) -> None:
    """Without a server training ends well, with one warning; `track` says what to do; then `dvc repro` runs only track."""
    news = News(project)
    project.env["MLFLOW_TRACKING_URI"] = "http://127.0.0.1:9"
    forget(project.folder, "train")
    said = project.dvc("repro", ok=False)
    del project.env["MLFLOW_TRACKING_URI"]
    assert said.count("warning: MLflow") == 1
    assert "http://127.0.0.1:9" in said
    assert "error: MLflow" in said
    assert "validation perplexity" in said
    assert not news.runs()
    said = project.dvc("repro")
    assert [line for line in said.splitlines() if line.startswith("Running stage")] == ["Running stage 'track':"]
    assert_complete(news.only(), project)


def test_stages_by_hand(project: Project) -> None:
    """`python -m stages.train` and so on, then `python -m stages.track`: one complete run, without checksums of other runs."""
    news = News(project)
    for stage in ("train", "evaluate", "generate", "explain", "track"):
        project.python("-m", f"stages.{stage}")
    assert_complete(news.only(), project, by_dvc=False)
    assert_watched(news.only())


def test_failed_training_is_marked(project: Project) -> None:
    """A training that diverges leaves a failed run, which is not completed and not taken up by other params."""
    news, before = News(project), (project.folder / "params.yaml").read_text(encoding="utf-8")
    project.set(learning_rate=100.0, weight_decay=1.0, grad_clip=0.0, warmup_steps=0)  # each step: weights x -99
    assert "error" in project.dvc("repro", ok=False)
    assert news.only().status == "FAILED"
    assert not news.only().complete
    (project.folder / "params.yaml").write_text(before, encoding="utf-8")
    forget(project.folder, "train")
    project.dvc("repro")
    failed, good = news.runs()
    assert (failed.status, failed.complete) == ("FAILED", False)
    assert_complete(good, project)
    assert good.stages()["train"] == "ran"
