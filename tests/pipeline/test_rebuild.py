"""A run on record, of changed code and from a trained network: shared, made again to the byte, its model handed on."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from project import LoggedRun, Project, assert_complete, ran
from repository import git

from tools import reproduce

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]  # seconds: real pipelines, perhaps on a busy machine

CHANGES = ("temperature=0.5", "block_size=16", "stride=16", "init_from=data/train/model", "keep=best", "epochs=1")
CHANGES += ("learning_rate=0.001", "min_learning_rate=1/10")


@pytest.fixture(scope="module")
def project(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with a run that its commit does not give: an uncommitted line of code, params of its own, and first weights
    from the network that lay in data/train/model, which the experiment replaces."""
    project = finished.duplicate(tmp_path_factory.mktemp("rebuild") / "project")
    path = project.folder / "stages" / "training" / "schedule.py"
    text = path.read_text(encoding="utf-8")
    path.write_text(
        text + "\nlearning_rate_before = learning_rate\n"
        "def learning_rate(*words, **more):  # twice the rate: a change that changes the weights\n"
        "    return 2 * learning_rate_before(*words, **more)\n",
        encoding="utf-8",
    )
    project.dvc("exp", "run", "-n", "mine", *(word for change in CHANGES for word in ("-S", change)))
    git(project.folder, "checkout", "--quiet", "--force", "HEAD")
    project.dvc("checkout")
    return project


@pytest.fixture
def mine(project: Project) -> LoggedRun:
    """The second of the two runs, which is not what lies in the work tree now."""
    _, run = project.runs()
    assert run.name == "mine"
    assert run.tags["git.dirty"] == "yes"
    return run


def test_the_run_names_the_network_that_it_started_from(project: Project, mine: LoggedRun) -> None:
    """It is complete, has the first weights' checksum, the perplexity before the training and what was gained."""
    assert_complete(mine, project)
    assert mine.tags["md5.init"].endswith(".dir")
    assert mine.params["init_from"] == "data/train/model"
    improvement = {"evaluate/initial_perplexity", "evaluate/initial_perplexity_low", "evaluate/gain_over_initial"}
    assert improvement | {"train/best_step", "train/best_val_loss"} <= set(mine.metrics)
    assert 0 in mine.steps("curves/val_loss")


def test_a_clone_has_the_network_that_it_started_from(project: Project, tmp_path: Path) -> None:
    """A colleague gets it by `dvc pull`, and `dvc repro` only looks for the data set."""
    shared = project.duplicate(tmp_path / "project")
    shared.dvc("exp", "apply", "mine")
    shared.commit()
    shared.dvc("push")
    git(shared.folder, "clone", "-q", str(shared.folder), str(tmp_path / "clone"))
    clone = Project(tmp_path / "clone", {"HF_HUB_OFFLINE": "1"})
    clone.dvc("pull")
    assert (clone.folder / "data/download/init/model.safetensors").is_file()
    assert ran(clone.dvc("repro")) == ["identify"]
    assert "up to date" in clone.dvc("repro")
    assert not clone.runs()


@contextmanager
def other_model_on_record(project: Project, run: LoggedRun) -> Iterator[None]:
    """One digit of the model's recorded md5 changed: what another weight would have given."""
    (lock,) = (project.folder / "mlruns" / run.id).rglob("dvc.lock")
    text, md5 = lock.read_text(encoding="utf-8"), run.tags["md5.model"]
    lock.write_text(text.replace(md5, ("1" if md5[0] == "0" else "0") + md5[1:]), encoding="utf-8")
    try:
        yield
    finally:
        lock.write_text(text, encoding="utf-8")


@pytest.fixture(scope="module")
def rerun(project: Project, tmp_path_factory: pytest.TempPathFactory) -> reproduce.Rerun:
    """What the run called mine gives when it is run again: once, to be compared with several records."""
    folder = tmp_path_factory.mktemp("rerun")
    script = """
import dataclasses, json, sys
from pathlib import Path
from tools import reproduce
from tools.recorded_run import Recorded
folder = Path(sys.argv[1])
rerun = reproduce.run_again(Recorded("mine").checkout(folder))
(folder / "rerun.json").write_text(json.dumps(dataclasses.asdict(rerun)))
"""
    project.python("-c", script, str(folder))
    return reproduce.Rerun(**json.loads((folder / "rerun.json").read_text(encoding="utf-8")))


def verdict(project: Project, run_id: str, rerun: reproduce.Rerun) -> object:
    """The exit code of `make reproduce` when the run on record gives this."""
    with project.inside() as patch:
        patch.setattr(reproduce, "run_again", lambda project: rerun)
        with pytest.raises(SystemExit) as ended:
            reproduce.main(argparse.Namespace(run=run_id))
    return ended.value.code


@pytest.mark.readme("make reproduce RUN=<run>")
def test_reproduce_is_identical(
    project: Project, mine: LoggedRun, rerun: reproduce.Rerun, capsys: pytest.CaptureFixture[str]
) -> None:
    """The recorded commit, patch and params give the recorded bytes, and the store gets no run from it."""
    assert verdict(project, "mine", rerun) == 0
    said = capsys.readouterr().out
    assert "identical: every output has the recorded md5" in said
    assert said.count("  same\n") >= 15
    assert "DIFFERENT" not in said
    assert len(project.runs()) == 2


def test_reproduce_sees_a_difference(
    project: Project, mine: LoggedRun, rerun: reproduce.Rerun, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another md5 of the model on record: exit code 1, and the table shows that line alone as different."""
    with other_model_on_record(project, mine):
        assert verdict(project, mine.id[:8], rerun) == 1
    said = capsys.readouterr().out
    assert [line.split()[0] for line in said.splitlines() if line.endswith("DIFFERENT")] == ["data/train/model"]
    assert "the machine is identical" in said


def test_reproduce_on_another_machine(
    project: Project, mine: LoggedRun, rerun: reproduce.Rerun, capsys: pytest.CaptureFixture[str]
) -> None:
    """Other bytes, but the run was recorded with another torch: that is named, and perplexities in their intervals will do."""
    torch = mine.tags["machine.torch"]
    with other_model_on_record(project, mine):
        mine.client.set_tag(mine.id, "machine.torch", "1.0.0")
        assert verdict(project, "mine", rerun) == 0
    mine.client.set_tag(mine.id, "machine.torch", torch)
    said = capsys.readouterr().out
    assert f"torch: 1.0.0 -> {torch}" in said
    assert "evaluate/perplexity: " in said
    assert "within the interval" in said
    assert "identical" not in said


USE = """
import tempfile, mlflow, torch
from pathlib import Path
from transformers import AutoModelForCausalLM
from tools.recorded_run import Recorded
from tools.register import fetch

mlflow.set_tracking_uri("sqlite:///mlflow.db")
pipe = mlflow.transformers.load_model("models:/gpt2-from-scratch/1")
ours = AutoModelForCausalLM.from_pretrained(fetch(Recorded("mine"), Path(tempfile.mkdtemp()))).state_dict()
print("context", pipe.model.config.n_positions)
print("same", all(torch.equal(value, ours[key]) for key, value in pipe.model.state_dict().items()))
print("text", pipe("Once upon a time")[0]["generated_text"])
served = mlflow.pyfunc.load_model("models:/gpt2-from-scratch/1")
answers = [served.predict("the dog " * words, params) for words in (1, 500) for params in (None, {"max_new_tokens": 3})]
print("answers", [len(texts) for texts in answers])
needed = Path(mlflow.pyfunc.get_model_dependencies("models:/gpt2-from-scratch/1")).read_text().split()
print("pinned", all("==" in package for package in needed))
"""


@pytest.mark.readme("make register RUN=<run>")
def test_a_registered_model_is_the_run_s(project: Project, mine: LoggedRun) -> None:
    """The registered model is the run's, from DVC's cache, not the work tree's; transformers loads it with the same weights.

    Its version says what it is; served, it continues texts of every length, and a request can set what the schema names.
    """
    pytest.importorskip("transformers", reason="transformers is not installed (requirements-dev.txt)")
    assert "models:/gpt2-from-scratch/1" in project.python("-m", "tools.register", "mine")
    version = mine.client.get_model_version("gpt2-from-scratch", "1")
    assert version.run_id == mine.id
    assert f"{mine.metrics['evaluate/perplexity']:.4g}" in version.description
    assert f"make reproduce RUN={mine.id}" in version.description
    assert (version.tags["runName"], version.tags["md5.model"]) == ("mine", mine.tags["md5.model"])
    project.env["HF_HUB_OFFLINE"] = "1"
    said = project.python("-c", USE)
    assert "context 16\n" in said, "the work tree's model has 32"
    assert "same True\n" in said
    assert "text Once upon a time" in said
    assert "answers [1, 1, 1, 1]" in said
    assert "pinned True" in said
