"""Data, params and code that are edited while the pipeline runs, or between two runs, with real DVC and MLflow."""

from __future__ import annotations

import json
import os
import random
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from project import Project, assert_complete, wait_for
from reference import Reference, at_once, starts_stage
from repository import git

from stages.common.params import read_yaml
from stages.tracking import pipeline

MOMENTS = int(os.environ.get("MOMENTS", "20"))
OTHER = {  # a param of the stage with another value
    "identify": ("dataset_revision", "0" * 40),
    "download": ("max_samples", 50),
    "tokenize": ("vocabulary", "full"),
    "train": ("learning_rate", 0.002),
    "evaluate": ("eval_stride", 8),
    "generate": ("temperature", 0.5),
    "explain": ("device", "auto"),
    "track": ("temperature", 0.5),
}
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800), pytest.mark.kind("edited while a stage runs")]


def train_and_edit(project: Project, edit: Callable[[], object]) -> str:
    """Start `dvc repro`, edit once the training has taken some steps, and return what is said."""
    (project.folder / "data/track/summary.md").touch()
    running = project.start("repro", "train")
    wait_for(lambda: project.checkpointed() or running.poll() is not None)
    assert running.poll() is None, "too late"
    edit()
    said = running.communicate(timeout=300)[0]
    assert running.returncode != 0, said
    return said


def recorded(project: Project) -> list[bytes]:
    """What DVC has recorded: dvc.lock, and the run cache."""
    kept = sorted(path for path in (project.folder / ".dvc/cache/runs").rglob("*") if path.is_file())
    return [path.read_bytes() for path in [project.folder / "dvc.lock", *kept]]


def model(project: Project) -> bytes:
    return (project.folder / "data/train/model/model.safetensors").read_bytes()


def test_params_and_code_edited_while_training(finished: Project, tmp_path: Path) -> None:
    """Nothing wrong is recorded and nothing is lost: restored, the training resumes at its last step, to the same bytes."""
    project = finished.duplicate(tmp_path / "project")
    code = project.folder / "model" / "loss.py"
    text = code.read_text(encoding="utf-8")
    project.set(epochs=20, learning_rate=0.002)
    before = recorded(project)

    def edit() -> None:
        project.set(learning_rate=0.004)
        code.write_text(text + "# a comment\n", encoding="utf-8")

    said = train_and_edit(project, edit)
    assert "edited while the stage train ran: learning_rate: 0.002 -> 0.004, model/loss.py" in said
    assert recorded(project) == before
    assert [(run.complete, run.status) for run in project.runs() if run.params["learning_rate"] == "0.002"] == [
        (False, "FAILED")
    ]

    project.set(learning_rate=0.002)
    code.write_text(text, encoding="utf-8")
    said = project.dvc("repro", "train")
    steps = json.loads((project.folder / "data/train/metrics.json").read_text())["steps"]
    assert f"resuming from step {steps} of {steps}" in said
    assert not list((project.folder / ".checkpoints").glob("*/*.safetensors"))
    trained = model(project)
    lock = read_yaml((project.folder / "dvc.lock").read_text(encoding="utf-8"))
    assert lock["stages"]["train"]["params"]["params.yaml"]["learning_rate"] == 0.002

    project.python("-m", "stages.train", "--no-log")
    assert model(project) == trained, "the resumed training gave other bytes than one without an edit"


def test_the_run_is_not_completed_after_an_edit(finished: Project, tmp_path: Path) -> None:
    """What was edited after the stage that read it is named by `track`, and the run is not completed."""
    project = finished.duplicate(tmp_path / "project")
    with project.inside():
        assert pipeline.edited() == []
        project.set(learning_rate=0.002, temperature=0.7)
        (project.folder / "stages/evaluation/report.py").open("a").write("# a comment\n")
        assert pipeline.edited() == [
            "learning_rate (since train ran)",
            "stages/evaluation (since evaluate ran)",
            "temperature (since generate ran)",
        ]
    assert "edited since a stage ran" in project.dvc("repro", "--force", "--single-item", "track", ok=False)
    assert len([run for run in project.runs() if run.complete]) == 1


def test_a_param_of_a_later_stage_is_edited_while_training(finished: Project, tmp_path: Path) -> None:
    """It changes nothing for the training; the run has the value that the later stage read, in its params, file and command."""
    project = finished.duplicate(tmp_path / "project")
    project.set(epochs=20, temperature=0.9)
    running = project.start("repro")
    wait_for(lambda: project.checkpointed() or running.poll() is not None)
    project.set(temperature=0.5)
    said = running.communicate(timeout=600)[0]
    assert running.returncode == 0, said
    run = next(run for run in project.runs() if run.params["epochs"] == "20")
    assert_complete(run, project)
    assert run.params["temperature"] == "0.5"
    assert "temperature=0.5" in run.tags["command"]
    assert read_yaml(run.text("params.yaml", tmp_path))["temperature"] == 0.5
    assert "Temperature 0.5" in (project.folder / "data/generate/samples.md").read_text(encoding="utf-8")


def write_stories(path: Path, word: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps({"text": f"A {word} number {i}."}) + "\n" for i in range(90)), encoding="utf-8")


def words(project: Project) -> set[str]:
    """The words that tell whose stories were downloaded."""
    texts = pq.read_table(project.folder / "data/download/train.parquet")["text"].to_pylist()
    return {text.split()[1] for text in texts}


@pytest.mark.readme("dvc exp run -S dataset=my.txt")
def test_a_changed_file_is_a_change(tmp_path: Path) -> None:
    """A local file: unchanged, nothing runs; edited, restored, read by a temporary experiment, replaced by another: each time
    the stories are those of the file as it is. Gone, it is an error, and never the old stories."""
    project = Project.copy(tmp_path / "project", dataset="mine.jsonl")
    mine = project.folder / "mine.jsonl"
    write_stories(mine, "cat")
    project.dvc("repro", "download")
    assert words(project) == {"cat"}
    assert "up to date" in project.dvc("repro", "download")

    write_stories(mine, "cow")
    assert "identify" in project.dvc("status")
    project.dvc("repro", "download")
    assert words(project) == {"cow"}
    write_stories(mine, "cat")
    assert "Stage 'download' is cached" in project.dvc("repro", "download")
    assert words(project) == {"cat"}
    project.commit()

    write_stories(mine, "dog")
    project.dvc("exp", "run", "--temp", "-n", "warm", "-S", "max_samples=50", "download")
    assert words(project) == {"cat"}
    project.dvc("repro", "download")
    assert words(project) == {"dog"}

    mine.rename(project.folder / "yours.jsonl")
    assert "data/identify/dataset" in project.dvc("repro", "download", ok=False)
    project.python("-m", "tools.mend")
    assert "mine.jsonl was here and is gone" in project.dvc("repro", "download", ok=False)
    project.set(dataset="yours.jsonl")
    project.dvc("repro", "download")
    assert words(project) == {"dog"}


def test_a_changed_folder_is_a_change(tmp_path: Path) -> None:
    """A folder: a file added, renamed or removed in it is noticed, and what cannot be stories is not. An experiment's commit
    does not have the data set in it."""
    project = Project.copy(tmp_path / "project", dataset="mine", max_samples=70)
    write_stories(project.folder / "mine" / "train-1.jsonl", "cat")
    (project.folder / "mine" / "pipe").mkdir()
    os.mkfifo(project.folder / "mine" / "pipe" / "fifo")
    (project.folder / "mine" / "broken").symlink_to("nowhere")
    project.dvc("exp", "run", "-n", "first", "download")
    experiment = git(project.folder, "for-each-ref", "--format=%(refname)", "refs/exps/*/*/first").strip()
    files = git(project.folder, "ls-tree", "-r", "--name-only", experiment)
    assert "dvc.lock" in files and "data/identify" not in files
    assert "up to date" in project.dvc("repro", "download")
    for edit in (
        lambda folder: write_stories(folder / "build" / "train-0.jsonl", "cow"),
        lambda folder: (folder / "build" / "train-0.jsonl").rename(folder / "build" / "train-3.jsonl"),
        lambda folder: (folder / "build" / "train-3.jsonl").unlink(),
    ):
        before = (project.folder / "data/identify/source.json").read_text(encoding="utf-8")
        edit(project.folder / "mine")
        project.dvc("repro", "identify")
        assert (project.folder / "data/identify/source.json").read_text(encoding="utf-8") != before


def test_a_colleague_without_the_file(tmp_path: Path) -> None:
    """After `git clone` and `dvc pull` one line says that the downloaded stories are used, each time, and nothing else runs."""
    project = Project.copy(tmp_path / "project", dataset="mine.jsonl")
    write_stories(project.folder / "mine.jsonl", "cat")
    (project.folder / ".gitignore").open("a").write("mine.jsonl\n")
    project.dvc("repro", "tokenize")
    project.commit()
    project.dvc("push")
    git(project.folder, "clone", "-q", str(project.folder), str(tmp_path / "clone"))
    clone = Project(tmp_path / "clone")
    clone.dvc("pull", "tokenize", "download", "identify")
    for _ in range(2):
        said = clone.dvc("repro", "tokenize")
        assert "mine.jsonl does not exist here: the stories that were downloaded from it are used" in said
        assert "'download' didn't change" in said
    write_stories(clone.folder / "mine.jsonl", "cow")
    clone.dvc("repro", "download")
    assert words(clone) == {"cow"}


def entry(project: Project, stage: str) -> object:
    return read_yaml((project.folder / "dvc.lock").read_text(encoding="utf-8"))["stages"][stage]


def is_recorded_as_it_ran(reference: Reference, folder: Path, stage: str, share: float) -> None:
    """One edit of a param at a moment of the stage: dvc.lock says what the stage then gives; restored, all is as before.

    Args:
        share: when to edit, as a share of the stage's life.
    """
    project = reference.copy(folder, without=stage)
    key, value = OTHER[stage]
    given = read_yaml((folder / "params.yaml").read_text(encoding="utf-8"))[key]
    running = project.start("repro")
    assert starts_stage(running, stage)
    time.sleep(share * reference.seconds[stage])
    project.set(**{key: value})
    said = running.communicate(timeout=600)[0]
    if running.returncode == 0 and stage not in ("explain", "track"):
        before = entry(project, stage)
        project.dvc("repro", "--force", "--no-run-cache", "--single-item", stage)
        assert entry(project, stage) == before, said
    elif running.returncode:  # what was edited after the stage, if only an instant before DVC looks at it, `track` finds
        late = "edited since a stage ran" in said or "edited in the instant" in said
        assert late or entry(project, stage) == {"cmd": "never ran"}, said
    project.set(**{key: given})
    project.dvc("repro")
    assert reference.differences(project) == [], said
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.extra
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("stage", OTHER)
def test_edited_anywhere(
    reference: Reference, stage: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """A param that the stage reads is edited at evenly spread moments of its life, but for its end: what is edited after the
    stage's last look, and before DVC's own, DVC records."""
    moments = random.Random(stage)
    at_once(
        [
            partial(is_recorded_as_it_ran, reference, tmp_path / str(n), stage, 0.7 * (n + moments.random()) / MOMENTS)
            for n in range(MOMENTS)
        ],
        record_property,
    )
