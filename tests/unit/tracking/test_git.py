"""How git is started, and what no program that we start sees."""

from __future__ import annotations

import importlib.util
import os
import subprocess
from pathlib import Path

import pytest

from stages.tracking import git

pytestmark = pytest.mark.kind("git errors and unusual git settings")
HOOK = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "DVC_ROOT", "DVC_STAGE", "PIP_TARGET", "PYTHONPATH", "PYTHONSAFEPATH")


def test_what_hooks_and_shells_leave_is_not_handed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Git's variables win over the folder that it is asked in; those of DVC, pip and Python point elsewhere as well."""
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    for name in HOOK:
        monkeypatch.setenv(name, "/no/such/folder")
    monkeypatch.setenv("DVC_NO_ANALYTICS", "1")
    assert git.git("rev-parse", "--show-toplevel", cwd=tmp_path) == str(tmp_path)
    environment = git.clean_environment(MORE="x")
    assert not environment.keys() & set(HOOK)
    assert (environment["DVC_NO_ANALYTICS"], environment["MORE"]) == ("1", "x")


def test_a_python_path_that_pytorch_comes_from_is_handed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On clusters PyTorch comes from a module's PYTHONPATH: that entry stays, others do not."""
    found = importlib.util.find_spec("torch")
    assert found is not None and found.origin is not None
    libraries = str(Path(found.origin).parents[1])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), libraries]))
    assert git.clean_environment()["PYTHONPATH"] == libraries


def test_git_that_refuses_or_is_missing_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In git's own words."""
    with pytest.raises(git.GitError, match="^git no-such-command failed: git: [^\n]*$"):
        git.git("no-such-command", cwd=tmp_path)
    monkeypatch.setattr(git, "clean_environment", lambda **more: {"PATH": str(tmp_path)})
    with pytest.raises(git.GitError, match="could not be started"):
        git.git("status")
