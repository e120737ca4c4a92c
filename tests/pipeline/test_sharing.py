"""What one person computed, another one has after `git clone` and `dvc pull`, through the default remote or one's own."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from project import Project, assert_complete, ran
from repository import git

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]  # seconds: real pipelines, perhaps on a busy machine

OWN = """\
[core]
    remote = shared
['remote "shared"']
    url = {folder}/store
"""


@pytest.fixture(scope="module")
def project(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose pipeline has run, with the result committed."""
    return finished.duplicate(tmp_path_factory.mktemp("sharing") / "project")


@pytest.mark.readme("dvc push")
@pytest.mark.readme("dvc pull")
@pytest.mark.parametrize("config", ["", OWN], ids=["the sibling folder", "a remote of one's own"])
def test_push_clone_pull_brings_everything(config: str, project: Project, tmp_path: Path) -> None:
    """After push, clone and pull no stage runs but `identify`, which looks for the data set here. The pulled model writes the
    same samples. A remote of one's own stands in .dvc/config.local, as docs/remotes.md says."""
    local = project.folder / ".dvc" / "config.local"
    local.write_text(config.format(folder=tmp_path), encoding="utf-8")
    project.dvc("push")
    place = project.folder.parent / f"clone-{len(config)}"
    git(project.folder, "clone", "-q", str(project.folder), str(place))
    clone = Project(place)
    shutil.copyfile(local, place / ".dvc" / "config.local")
    assert "fetched" in clone.dvc("pull")
    assert [line for line in clone.dvc("status").splitlines() if line.endswith(":") and line[0].isalpha()] == ["identify:"]
    if not config:
        assert ran(clone.dvc("repro")) == ["identify"]
        assert not clone.runs()
        clone.python("-m", "stages.generate")
        assert "up to date" in clone.dvc("status")
    assert git(place, "status", "--porcelain") == ""


def test_clone_without_the_remote_gives_the_same_bytes(project: Project, tmp_path: Path) -> None:
    """A clone elsewhere, which the sibling folder cannot be seen from: `dvc pull` fails, and `dvc repro` runs every stage.

    The result has the same bytes, and it is a run: `track` is not skipped because dvc.lock already says what it will find.
    """
    git(project.folder, "clone", "-q", str(project.folder), str(tmp_path / "alone"))
    alone = Project(tmp_path / "alone")
    assert "failed to pull" in alone.dvc("pull", ok=False)
    alone.dvc("repro")
    assert (tmp_path / "alone" / "dvc.lock").read_bytes() == (project.folder / "dvc.lock").read_bytes()
    (run,) = alone.runs()
    assert_complete(run, alone)
