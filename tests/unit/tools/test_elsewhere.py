"""A pipeline elsewhere: the commit that was asked for, the params that were asked for, and every output compared."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest
from repository import ROOT, digests

from stages.common import session
from stages.common.errors import UserError
from stages.common.params import read_yaml
from stages.tracking.git import git
from tools import elsewhere

OUTPUTS = {"data/tokenize/train.npy": "aa", "data/train/model": "bb.dir"}
MADE = {"dvc.lock": "schema: '2.0'\n", "data/train/model/config.json": "{}", "data/train/history.csv": "step\n"}


@pytest.fixture
def larger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A git repository with a project in its folder ml, and two commits."""
    repository = tmp_path / "larger"
    (repository / "ml").mkdir(parents=True)
    git("init", "--quiet", cwd=repository)
    for text in ("first", "second"):
        (repository / "ml" / "dvc.yaml").write_text(text)
        git("add", "--all", cwd=repository)
        git("-c", "user.name=t", "-c", "user.email=t@t", "commit", "--quiet", "--message", text, cwd=repository)
    monkeypatch.setattr(session, "project_root", lambda: repository / "ml")
    return repository


@pytest.mark.kind("git errors and unusual git settings")
def test_a_hook_s_variables_do_not_lead_to_the_user_s_repository(
    larger: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what git sets for a hook in a linked worktree, clones and DVC work in the clone: the user's branch, index, files and
    worktrees stay as they are."""
    linked = tmp_path / "linked"
    git("worktree", "add", "--quiet", "-b", "mine", str(linked), cwd=larger)
    (linked / "ml" / "staged").write_text("not committed")
    git("add", "--all", cwd=linked)
    private = larger / ".git" / "worktrees" / "linked"
    before = digests(larger), digests(linked)
    monkeypatch.setattr(session, "project_root", lambda: linked / "ml")
    for name, value in {"DIR": private, "WORK_TREE": linked, "INDEX_FILE": private / "index", "PREFIX": "ml/"}.items():
        monkeypatch.setenv(f"GIT_{name}", str(value))
    project = elsewhere.clone(tmp_path / "clone", "HEAD~1")
    elsewhere.dvc(project, "init", "--subdir")
    assert git("rev-parse", "--show-toplevel", cwd=project) == str(tmp_path / "clone")
    assert (project / ".dvc" / "config").exists() and not (linked / "ml" / ".dvc").exists()
    assert (project / "dvc.yaml").read_text() == "first"
    assert (digests(larger), digests(linked)) == before


def test_unknown_commit_is_reported(larger: Path, tmp_path: Path) -> None:
    """A commit that is not there: git's own words, and no folder."""
    with pytest.raises(UserError, match="no-such-branch"):
        elsewhere.clone(tmp_path / "clone", "no-such-branch")
    assert not (tmp_path / "clone").exists()


def test_only_the_given_params_are_changed(tmp_path: Path) -> None:
    """Values of every kind arrive as the stages read them; all others are those of the committed params.yaml. A key that was
    renamed is noticed."""
    changes = {"max_samples": 60, "learning_rate": 1e-05, "causal": False, "top_k": None, "prompt": ["010", "x: [y] # z"]}
    shutil.copyfile(ROOT / "params.yaml", tmp_path / "params.yaml")
    elsewhere.set_params(tmp_path, changes)
    before, after = (read_yaml((place / "params.yaml").read_text(encoding="utf-8")) for place in (ROOT, tmp_path))
    assert after == before | changes
    with pytest.raises(KeyError, match="max_stories"):
        elsewhere.set_params(tmp_path, {"max_stories": 10})


def test_typed_changes_are_read_as_in_params_yaml() -> None:
    """`-S key=value` gives what the same value gives in params.yaml."""
    typed = elsewhere.parse_changes(["max_samples=30", "causal=false", "top_p=null", "prompt=a=b", "learning_rate=1e-3"])
    assert typed == {"max_samples": 30, "causal": False, "top_p": None, "prompt": "a=b", "learning_rate": 0.001}


def test_every_file_that_a_pipeline_makes_is_compared(tmp_path: Path) -> None:
    """dvc.lock and all files in the stages' folders, each by its content; not what git brought."""
    for name, text in (MADE | {"data/README.md": "a", "data/train/.gitignore": "/model\n", "params.yaml": "seed: 1\n"}).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert elsewhere.md5s(tmp_path) == {name: hashlib.md5(text.encode()).hexdigest() for name, text in MADE.items()}


@pytest.mark.parametrize(
    ("after", "different"),
    [
        (OUTPUTS, []),
        (OUTPUTS | {"data/train/model": "bc.dir"}, ["data/train/model"]),
        ({"data/train/model": "bb.dir"}, ["data/tokenize/train.npy"]),
        (OUTPUTS | {"more": "x"}, ["more"]),
        ({}, list(OUTPUTS)),
    ],
)
def test_each_other_output_is_different(
    after: dict[str, str], different: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """One md5 that differs, is missing or is new: different, and the table says which. Without any it is identical."""
    assert elsewhere.show_outputs(OUTPUTS, after) is (not different)
    assert not elsewhere.show_outputs({}, {}), "an empty record equals an empty result, and proves nothing"
    said = capsys.readouterr().out
    assert [line.split()[0] for line in said.splitlines() if line.endswith("DIFFERENT")] == sorted(different)
    assert ("identical" in said) is (not different)
