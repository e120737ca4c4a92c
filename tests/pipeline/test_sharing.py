"""What one person computed, another one has after `git clone` and `dvc pull`, through any kind of remote."""

from __future__ import annotations

import os
import pwd
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import servers
from project import Project, assert_complete, ran
from repository import git

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]  # seconds: real pipelines, perhaps on a busy machine

CONFIG = """\
[core]
    remote = shared
['remote "shared"']
    url = {url}
    {more}
"""


@pytest.fixture(scope="module")
def project(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose pipeline has run, with the result committed."""
    return finished.duplicate(tmp_path_factory.mktemp("sharing") / "project")


@contextmanager
def remote(kind: str, folder: Path) -> Iterator[str]:
    """A remote of this kind: the .dvc/config.local that makes it a checkout's default (empty: the default stays)."""
    with ExitStack() as stack:
        if kind == "sibling":
            yield ""
        elif kind == "ssh":
            port, key = stack.enter_context(servers.ssh_server(folder))
            account = pwd.getpwuid(os.getuid()).pw_name  # not $USER or $LOGNAME, which may say something else
            yield CONFIG.format(url=f"ssh://{account}@127.0.0.1:{port}{folder}/store", more=f"keyfile = {key}")
        else:
            address = stack.enter_context(servers.s3_server(folder))
            keys = "access_key_id = key\n    secret_access_key = word"
            yield CONFIG.format(url="s3://runs/store", more=f"endpointurl = {address}\n    {keys}")


@pytest.mark.parametrize("kind", ["sibling", "ssh", "s3"])
def test_push_clone_pull_brings_everything(kind: str, project: Project, tmp_path: Path) -> None:
    """After push, clone and pull no stage runs but `identify`, which looks for the data set here. The pulled model writes the
    same samples."""
    with remote(kind, tmp_path) as config:
        local = project.folder / ".dvc" / "config.local"
        local.write_text(config, encoding="utf-8")
        project.dvc("push")
        place = project.folder.parent / f"clone-{kind}"
        git(project.folder, "clone", "-q", str(project.folder), str(place))
        clone = Project(place)
        shutil.copyfile(local, place / ".dvc" / "config.local")
        assert "fetched" in clone.dvc("pull")
    assert [line for line in clone.dvc("status").splitlines() if line.endswith(":") and line[0].isalpha()] == ["identify:"]
    if kind == "sibling":
        assert ran(clone.dvc("repro")) == ["identify"]
        assert "up to date" in clone.dvc("repro")
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
