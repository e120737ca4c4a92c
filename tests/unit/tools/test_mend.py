"""What DVC was writing when it was killed is mended, and nothing else is touched."""

from __future__ import annotations

import argparse
import subprocess
from pathlib import Path

import pytest
from dvc.repo import Repo
from dvc_objects.fs.utils import tmp_fname
from source_tree import ROOT

from tools import mend

pytestmark = pytest.mark.kind("accident around a run")
RWLOCK, ASIDE = Path(".dvc/tmp/rwlock"), Path(".dvc/tmp/dvc.lock.damaged")
WHOLE = """schema: '2.0'
stages:
  download:
    cmd: python -m stages.download
    deps:
    - path: stages/download.py
      hash: md5
      md5: 0cc175b9c0f1b6a831c399e269772661
      size: 1234
"""


@pytest.fixture(autouse=True)
def _project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A repository of DVC and git with a committed dvc.lock."""
    monkeypatch.chdir(tmp_path)
    for name in ("DVC_ROOT", "GIT_DIR"):
        monkeypatch.delenv(name, raising=False)
    git("init", "-q")
    Repo.init().close()
    mend.LOCK.write_text(WHOLE)
    git("add", "-f", "dvc.lock")
    git("-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "lock")


def git(*words: str) -> None:
    subprocess.run(["git", *words], check=True)


def run() -> None:
    mend.main(argparse.Namespace())


def refused() -> bool:
    """Whether DVC itself cannot read its lock file."""
    from dvc.dvcfile import Lockfile
    from dvc.exceptions import DvcException

    with Repo() as repo:
        try:
            Lockfile(repo, "dvc.lock").load()
        except DvcException:
            return True
    return False


@pytest.mark.parametrize("cut", range(0, len(WHOLE), 19))
def test_a_lock_file_that_was_cut_short_is_restored(cut: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Wherever the writing ended: what DVC refuses is replaced by the committed file, and kept; what it takes is left."""
    mend.LOCK.write_text(WHOLE[:cut])
    was_refused = refused()
    run()
    assert mend.LOCK.read_text() == (WHOLE if was_refused else WHOLE[:cut])
    assert ASIDE.exists() is was_refused
    assert ("note: dvc.lock could not be read" in capsys.readouterr().err) is was_refused
    if was_refused:
        assert ASIDE.read_text() == WHOLE[:cut]
        assert not refused()


def test_a_lock_file_that_git_does_not_have_is_removed() -> None:
    """Where git has none, DVC is to make a new one."""
    git("rm", "-q", "--cached", "dvc.lock")
    git("-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "no lock")
    mend.LOCK.write_text("")
    run()
    assert not mend.LOCK.exists()


def test_a_merge_conflict_stays() -> None:
    """Git's marks of a conflict are no accident of DVC's: the file stays."""
    mend.LOCK.write_text(conflict := f"<<<<<<< HEAD\n{WHOLE}=======\n>>>>>>> other\n")
    run()
    assert mend.LOCK.read_text() == conflict


def test_dvc_s_files_in_a_folder_above_are_mended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where .dvc is in a folder above the project's, its files are mended there, and the project gets no .dvc of its own."""
    (tmp_path / "ml").mkdir()
    monkeypatch.chdir(tmp_path / "ml")
    Path("dvc.yaml").write_text("stages: {}\n")
    mend.LOCK.write_text("")
    (tmp_path / RWLOCK).write_text("")
    run()
    assert not mend.LOCK.exists() and not (tmp_path / RWLOCK).exists() and (tmp_path / ASIDE).exists()
    assert not Path(".dvc").exists()


@pytest.mark.parametrize(("content", "stays"), [("", False), ("{}", True)])
def test_an_empty_rwlock_is_removed(content: str, stays: bool) -> None:
    """DVC refuses an empty rwlock: it is taken away. A whole one stays."""
    RWLOCK.write_text(content)
    run()
    assert RWLOCK.exists() is stays


@pytest.mark.parametrize(
    ("name", "stays"),
    [
        ("data/download/{}", False),
        ("data/train/model/{}", False),
        ("data/train/model/model.safetensors{}", False),
        ("data/train/model/model.safetensors", True),
        ("data/download/.notes.tmp", True),
        ("data/download/a.file.of.mine-0123456789.tmp", True),
        ("{}", True),
    ],
)
def test_a_half_copied_output_is_removed(name: str, stays: bool) -> None:
    """A file with a temporary name of DVC's in data/ is taken away; others stay, and so do all outside."""
    path = Path(name.format(tmp_fname()))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"half")
    run()
    assert path.exists() is stays


def test_nothing_is_touched_while_dvc_is_at_work() -> None:
    """A file that a running DVC is writing is not damaged."""
    copying = Path("data", tmp_fname())
    copying.parent.mkdir()
    for path in (mend.LOCK, RWLOCK, copying):
        path.write_text("")
    with Repo() as repo, repo.lock:
        run()
    assert mend.LOCK.read_text() == "" and RWLOCK.exists() and copying.exists()


def test_make_repro_mends_first() -> None:
    """`make repro` does it before it starts DVC."""
    words = ["make", "--dry-run", "-o", "setup", "repro"]
    said = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert 0 <= said.find("python -m tools.mend") < said.find("dvc repro")
