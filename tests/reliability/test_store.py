"""A store of runs that cannot be used: `track` says in seconds what is wrong with it, and completes the run once it can."""

from __future__ import annotations

import argparse
import errno
import fcntl
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from unittest.mock import Mock

import faults
import pytest
from project import Project
from reference import QUIET, Reference
from refusal import check_message, refused
from stage_runs import run_stage

from stages import track
from stages.tracking import store as tracking

pytestmark = [pytest.mark.slow, pytest.mark.kind("MLflow store out of order")]


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Held by another program."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield


@contextmanager
def replaced(path: Path, content: Callable[[bytes], bytes]) -> Iterator[None]:
    """With other bytes, and restored."""
    whole = path.read_bytes()
    path.write_bytes(content(whole))
    yield
    path.write_bytes(whole)


@contextmanager
def moved(path: Path) -> Iterator[None]:
    """A folder in its place."""
    path.rename(path.with_suffix(".kept"))
    path.mkdir()
    yield
    path.rmdir()
    path.with_suffix(".kept").rename(path)


@contextmanager
def changed(path: Path, statement: str, new: bool = False) -> Iterator[None]:
    """With another content, and restored."""
    with replaced(path, lambda whole: b"" if new else whole):
        with closing(sqlite3.connect(path)) as store, store:
            store.execute(statement)
        yield


def newer(path: Path) -> AbstractContextManager[None]:
    """Of a version of MLflow that this one does not know."""
    return changed(path, "UPDATE alembic_version SET version_num = 'ffffffffffff'")


def foreign(path: Path) -> AbstractContextManager[None]:
    """Another program's database."""
    return changed(path, "CREATE TABLE bookmarks (url TEXT)", new=True)


CANNOT = "runs.db cannot be used: "
BROKEN: dict[str, tuple[Callable[[Path], AbstractContextManager[None]], list[str]]] = {
    "locked": (locked, [f"{CANNOT}database is locked", "End the program that holds it"]),
    "overwritten": (lambda path: replaced(path, lambda whole: b"noise" * len(whole)), [f"{CANNOT}file is not a database"]),
    "cut short": (lambda path: replaced(path, lambda whole: whole[: len(whole) // 2]), [CANNOT, "malformed", "move it away"]),
    "a folder": (moved, [f"{CANNOT}unable to open database file"]),
    "foreign": (foreign, [f"{CANNOT}it is another program's database"]),
    "newer": (newer, ["out-of-date database schema (found version ffffffffffff", "move the file away"]),
}


@pytest.fixture
def project(reference: Reference, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A copy of the finished project's data, and its store beside it, for `track` in this process."""
    folder, store = reference.copy_data(tmp_path / "project"), tmp_path / "runs.db"
    shutil.copyfile(reference.folder / "mlflow.db", store)
    shutil.copyfile(reference.folder / "dvc.lock", folder / "dvc.lock")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{store}")
    monkeypatch.setenv("DVC_ROOT", str(folder))
    monkeypatch.setattr(tracking, "LOCK_PATIENCE", 0.5)
    return Project(folder)


def complete(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """`track` again, with the store in order: the run from before and this one are complete."""
    monkeypatch.chdir(project.folder)
    track.main(argparse.Namespace())
    before, ours = project.runs(tracking.store_uri())
    assert before.complete and ours.complete
    assert sorted(ours.steps("curves/train_loss")) == sorted(before.steps("curves/train_loss"))


@pytest.mark.parametrize("name", BROKEN)
def test_a_store_that_cannot_be_used_is_one_message(
    name: str, project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A store that is locked, damaged, another's or no file: one message, what to do; afterwards the run is completed."""
    make, words = BROKEN[name]
    with make(project.folder.parent / "runs.db"):
        refused(project.folder, "track", [*words, "Nothing else is lost"], capsys)
    complete(project, monkeypatch)


def test_a_file_system_without_locks_is_named(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file system without locks, as some network disks: which file, and what to do."""

    for kind in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
        with monkeypatch.context() as patched:
            patched.setattr(fcntl, "flock", Mock(side_effect=OSError(kind, os.strerror(kind))))
            words = ["runs.db.lock: its file system has no locks", "a disk of this machine"]
            refused(project.folder, "track", words, capsys)
    complete(project, monkeypatch)


def test_a_read_only_store_is_named(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that this user may not write: the same."""
    store = project.folder.parent / "runs.db"
    with faults.read_only(store):
        done = run_stage(project.folder, "track", prepare=faults.obeys_modes, **QUIET, MLFLOW_TRACKING_URI=tracking.store_uri())
    assert done.returncode == 1
    check_message(done.stderr, ["runs.db cannot be used", "readonly", "writable for this user", "Nothing else is lost"])
    complete(project, monkeypatch)
