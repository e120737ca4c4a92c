"""What one person computed, another one has after `git clone` and `dvc pull`, through any kind of remote."""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import servers
from project import Project, assert_complete

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]  # seconds: real pipelines, perhaps on a busy machine


@pytest.fixture(scope="module")
def project(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose pipeline has run, with the result committed."""
    return finished.duplicate(tmp_path_factory.mktemp("sharing") / "project")


@contextmanager
def remote(kind: str, folder: Path) -> Iterator[list[list[str]]]:
    """A remote of this kind: the arguments of the `dvc remote` commands that set it up in a checkout (none for the default)."""
    with ExitStack() as stack:
        if kind == "sibling":
            yield []
        elif kind == "ssh":
            port, key = stack.enter_context(servers.ssh_server(folder))
            account = pwd.getpwuid(os.getuid()).pw_name  # not $USER or $LOGNAME, which may say something else
            yield [
                ["add", "-d", kind, f"ssh://{account}@127.0.0.1:{port}{folder}/store"],
                ["modify", "--local", kind, "keyfile", str(key)],
            ]
        else:
            address = stack.enter_context(servers.s3_server(folder))
            yield [
                ["add", "-d", kind, "s3://runs/store"],
                ["modify", kind, "endpointurl", address],
                ["modify", "--local", kind, "access_key_id", "key"],
                ["modify", "--local", kind, "secret_access_key", "word"],
            ]


@pytest.mark.parametrize("kind", ["sibling", "ssh", "s3"])
def test_push_clone_pull(kind: str, project: Project, tmp_path: Path) -> None:
    """After push, clone and pull: status is clean, `dvc repro` does nothing, the pulled model writes the same samples."""
    with remote(kind, tmp_path) as setup:
        for words in setup:
            project.dvc("remote", *words)
        project.dvc("push")
        place = project.folder.parent / f"clone-{kind}"
        subprocess.run(["git", "clone", "-q", str(project.folder), str(place)], check=True)
        clone = Project(place)
        for words in setup:
            clone.dvc("remote", *words)
        assert "fetched" in clone.dvc("pull")
        assert "Data and pipelines are up to date" in clone.dvc("status")
        assert "up to date" in clone.dvc("repro")
        assert not clone.runs()
        clone.python("-m", "stages.generate")
        changed = subprocess.run(["git", "status", "--porcelain"], cwd=place, capture_output=True, text=True, check=True)
        assert {line[3:] for line in changed.stdout.splitlines()} <= {".dvc/config"}
        assert "up to date" in clone.dvc("status")


def test_clone_without_the_remote_says_so(project: Project, tmp_path: Path) -> None:
    """A clone elsewhere, which the sibling folder cannot be seen from: `dvc pull` fails, and `dvc repro` makes it all again.

    The same bytes on the same machine, and yet a run: `track` is not skipped because dvc.lock already says what it will find.
    """
    subprocess.run(["git", "clone", "-q", str(project.folder), str(tmp_path / "alone")], check=True)
    alone = Project(tmp_path / "alone")
    assert "failed to pull" in alone.dvc("pull", ok=False)
    alone.dvc("repro")
    assert (tmp_path / "alone" / "dvc.lock").read_bytes() == (project.folder / "dvc.lock").read_bytes()
    (run,) = alone.runs()
    assert_complete(run, alone)
