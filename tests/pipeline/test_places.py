"""A checkout is moved, copied, cloned, put into a larger repository: nothing is written elsewhere, and nothing runs again."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from project import Project, assert_complete, ran
from repository import STAGES, digests, git

from tools import elsewhere
from tools.recorded_run import Recorded

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),  # seconds: real pipelines, perhaps on a busy machine
    pytest.mark.kind("checkout moved, copied, or in a larger repository"),
]


@pytest.fixture
def copy(finished: Project, tmp_path: Path) -> Callable[[str], Project]:
    """Makes a copy of a project whose pipeline has run, with its cache and its store, in a new folder."""
    return lambda name: finished.duplicate(tmp_path / name)


def artifacts_here(project: Project) -> None:
    """Every run's files are in this checkout, and can be read."""
    for run in project.runs():
        assert (project.folder / "mlruns" / run.id / "artifacts" / "params.yaml").is_file()
        assert "params.yaml" in run.artifacts()


def test_after_a_move_experiments_go_on_there(copy: Callable[[str], Project], finished: Project, tmp_path: Path) -> None:
    """After `mv` the next experiment is one complete run here; the old place is not made again; an old run can be rebuilt."""
    before = digests(finished.folder)
    project = copy("first place")
    (one,) = project.runs()
    (tmp_path / "first place").rename(tmp_path / "100% #2 ä")
    project = Project(tmp_path / "100% #2 ä")
    said = project.dvc("exp", "run", "-n", "two", "-S", "temperature=0.7")
    assert said.count("note: this checkout was at") == 1
    project.folder.rename(tmp_path / "third place")  # DVC's --temp does not work in the second
    project = Project(tmp_path / "third place")
    project.dvc("exp", "run", "--temp", "-n", "three", "-S", "temperature=0.8")
    assert os.listdir(tmp_path) == [project.folder.name]
    assert [run.name for run in project.runs()] == [one.name, "two", "three"]
    artifacts_here(project)
    assert all(run.complete for run in project.runs())
    assert digests(finished.folder) == before, "this was a copy of it"
    clone = rebuilt(project, one.id, tmp_path / "rebuilt")
    sample = Path("data/generate/samples.jsonl")
    assert (clone.folder / sample).read_bytes() == (finished.folder / sample).read_bytes()
    assert (project.folder / sample).read_bytes() != (finished.folder / sample).read_bytes(), "the work tree has another one"


def rebuilt(project: Project, run: str, folder: Path) -> Project:
    """The checkout in which `make reproduce RUN=...` runs everything again, with the run's outputs from the cache instead.

    DVC finds them to be what this code, these params and these data give. (Metrics and samples.md are
    git's, the links to the data set and the network are a checkout's own.)
    """
    folder.mkdir()
    with project.inside():
        clone = Project(Recorded(run).checkout(folder))
    clone.dvc("cache", "dir", "--local", str(project.folder / ".dvc" / "cache"))
    clone.dvc("checkout", "--force", *STAGES[:-1])
    said = clone.dvc("status", "--json", *STAGES[:-1])
    changes = [change for stage in json.loads(said[said.index("{") :]).values() for change in stage]
    assert {key for change in changes for key in change} <= {"changed outs", "changed deps"}, said
    changed = [path for change in changes for paths in change.values() for path in paths]
    own = ("metrics.json", "samples.md", "data/identify/dataset", "data/identify/init")
    assert [path for path in changed if not path.endswith(own)] == [], said
    return clone


def test_a_run_whose_files_are_missing_says_so(copy: Callable[[str], Project]) -> None:
    """A run whose files did not come along: that is what is said, not something else."""
    project = copy("bare")
    (run,) = project.runs()
    shutil.rmtree(project.folder / "mlruns" / run.id)
    said = project.python("-m", "tools.reproduce", run.id, ok=False)
    assert f"its files are not where the store says: {project.folder / 'mlruns' / run.id}" in said
    assert "Traceback" not in said


JUNK = """
.DS_Store ._train.py .train.py.swp .train.py.swo train.py~ .#train.py #train.py# Thumbs.db desktop.ini .nfs000000000123
.ipynb_checkpoints/train-checkpoint.py .idea/workspace.xml .vscode/settings.json __pycache__/train.cpython-311.pyc .directory
.~lock.train.py#
"""


def test_what_editors_and_desktops_leave_runs_nothing(copy: Callable[[str], Project]) -> None:
    """Files of Finder, Explorer, vim, Emacs, Jupyter, PyCharm, VS Code beside the code: nothing runs, git is clean, no run."""
    project = copy("junk")
    for folder in ("stages", "stages/training", "model", "data/train/model"):
        for name in JUNK.split():
            path = project.folder / folder / name
            path.parent.mkdir(exist_ok=True)
            if name.startswith(".#"):
                path.symlink_to("me@host.123")
            else:
                path.write_bytes(b"\0junk")
    assert "up to date" in project.dvc("repro")
    assert git(project.folder, "status", "--porcelain") == ""
    assert len(project.runs()) == 1


def test_a_clone_with_windows_line_ends_runs_nothing(copy: Callable[[str], Project], tmp_path: Path) -> None:
    """A clone with core.autocrlf=true has the same bytes: with the outputs in the cache nothing runs again."""
    project = copy("cloned")
    words = ["git", "clone", "-q", "-c", "core.autocrlf=true", str(project.folder), str(tmp_path / "clone")]
    subprocess.run(words, check=True)
    clone = Project(tmp_path / "clone")
    assert b"\r" not in (clone.folder / "stages" / "train.py").read_bytes()
    shutil.copytree(project.folder / ".dvc" / "cache", clone.folder / ".dvc" / "cache")
    clone.dvc("checkout")
    assert ran(clone.dvc("repro")) == ["identify"]
    assert git(clone.folder, "status", "--porcelain") == ""
    assert not clone.runs()


@pytest.mark.parametrize("how", ["its own .dvc", ".dvc above it"])
def test_in_a_larger_repository(how: str, copy: Callable[[str], Project], tmp_path: Path) -> None:
    """As a folder of a larger git repository: runs, checkpoints and files stay in it, by DVC and by hand; an uncommitted
    experiment can be rebuilt; the tools look into the same store."""
    larger = tmp_path / "larger"
    project = copy("alone")
    shutil.rmtree(project.folder / ".git")
    (project.folder / "mlflow.db").unlink()
    shutil.rmtree(project.folder / "mlruns")
    larger.mkdir()
    project.folder.rename(larger / "ml")
    project = Project(larger / "ml")
    if how == ".dvc above it":
        (larger / "ml" / ".dvc").rename(larger / ".dvc")
        (larger / "ml" / ".dvcignore").rename(larger / ".dvcignore")
    outer = Project(larger)
    for words in ("init -q -b main", "config user.name t", "config user.email t@t"):
        git(larger, *words.split())
    outer.commit()
    assert "up to date" in project.dvc("repro")
    project.dvc("repro", "-f", "-s", "track")
    project.python("-m", "stages.track")
    assert [(run.complete, run.tags["git.dirty"]) for run in project.runs()] == [(True, "no")] * 2
    allowed = {".git", ".dvc", ".dvcignore", ".gitignore", "ml"}
    assert {path.name for path in larger.iterdir()} <= allowed, "the larger repository gets nothing"
    said = project.python("-c", "from stages.tracking import store; print(store.store_uri())")
    assert said.strip() == f"sqlite:///{project.folder}/mlflow.db", "where make ui looks"
    if how == "its own .dvc":
        rebuild_there(project, tmp_path)


def rebuild_there(project: Project, folder: Path) -> None:
    """An uncommitted experiment has a short command and a patch that can be applied; both tools find the project's folder."""
    path = project.folder / "stages" / "generate.py"
    path.write_text(path.read_text(encoding="utf-8") + "# a comment\n", encoding="utf-8")
    project.dvc("exp", "run", "-n", "mine", "-S", "weight_decay=0.02")  # it trains: the store knows the machine
    *_, mine = project.runs()
    assert_complete(mine, project)
    assert mine.tags["git.dirty"] == "yes"
    assert mine.tags["command"].endswith("git apply code.patch && dvc exp run -S weight_decay=0.02"), (
        "other params are committed"
    )
    clone = rebuilt(project, "mine", folder / "rebuilt")
    assert clone.folder == folder / "rebuilt" / "checkout" / "ml"
    assert (clone.folder / "stages" / "generate.py").read_bytes() == path.read_bytes()
    with project.inside():
        clone = Project(elsewhere.clone(folder / "verified"))
    assert clone.folder == folder / "verified" / "ml"
    assert "Running stage 'tokenize'" in clone.dvc("repro", "--force", "--no-run-cache", "tokenize")
