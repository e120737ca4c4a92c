"""Which process a session is, and where its project is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from threading import Thread

import pytest

from stages.common import session
from stages.common.errors import UserError


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A root of the test's own."""
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.delenv("DVC_STAGE", raising=False)


def test_a_reused_process_number_is_another_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process number that another program has now, or has in another container, is another session."""
    mine = session.session_id()
    for module, fact in ((session, "_start"), (os, "readlink")):  # when it began, and in which container
        with monkeypatch.context() as patched:
            patched.setattr(module, fact, lambda *_: "another")
            assert session.session_id() != mine
    assert session.session_id() == mine


def test_wait_for_the_end_of_a_process(tmp_path: Path) -> None:
    """It returns when the process has ended, and at once when it has long ended."""
    process = subprocess.Popen(["sh", "-c", f"sleep 0.5; touch '{tmp_path}/ended'"])
    Thread(target=process.wait, daemon=True).start()
    session.wait_for_end(process.pid)
    assert (tmp_path / "ended").exists()
    session.wait_for_end(process.pid)


def test_the_root_is_the_projects(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Inside a larger repository, with DVC's folder in the project or above it, by hand, by DVC, and in a temporary copy."""
    larger = tmp_path / "larger"
    for place in ("ml/stages", ".git", ".dvc/tmp/exps/one/.dvc", ".dvc/tmp/exps/one/ml"):
        (larger / place).mkdir(parents=True)
    (larger / "ml" / "dvc.yaml").touch()

    def root(place: str, dvc_root: str = "") -> str:
        monkeypatch.setenv("DVC_ROOT", str(larger / dvc_root)) if dvc_root else monkeypatch.delenv("DVC_ROOT", raising=False)
        monkeypatch.chdir(larger / place)
        return session.project_root().relative_to(larger).as_posix()

    assert root("ml") == root("ml/stages") == "ml"
    assert session.dvc_tmp() == larger / ".dvc" / "tmp"
    assert root("ml", ".") == "ml"
    assert root(".dvc/tmp/exps/one/ml", ".") == "ml"
    (larger / "ml" / ".dvc").mkdir()
    assert root("ml") == root("ml", "ml") == "ml"
    assert session.dvc_tmp() == larger / "ml" / ".dvc" / "tmp"


ORPHAN = """
import os, subprocess, sys, time
from pathlib import Path
say = "import time; time.sleep(1); from stages.common import command; command.run(lambda args: print('worked'), '', argv=[])"
subprocess.Popen([sys.executable, "-c", say], start_new_session=True)
"""


@pytest.mark.kind("DVC, container or terminal gone")
def test_a_stage_whose_dvc_died_while_it_started_ends_at_once(tmp_path: Path) -> None:
    """DVC is killed while a stage imports its libraries: the stage does not work for nobody, nor takes process 1 for DVC."""
    (tmp_path / "dvc").write_text(ORPHAN)
    environment = os.environ | {"DVC_STAGE": "train", "PYTHONPATH": str(Path(__file__).parents[3])}
    words = ["setsid", "--fork", sys.executable, str(tmp_path / "dvc")]  # its parent ends too: nobody but process 1 is left
    said = subprocess.run(words, capture_output=True, text=True, check=True, env=environment, cwd=tmp_path, timeout=300)
    assert "error: the DVC that started this stage has ended" in said.stderr
    assert "worked" not in said.stdout and "Traceback" not in said.stderr


@pytest.mark.kind("odd environment")
def test_the_dvc_of_another_project_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stage of another project starts our DVC, which keeps the other's DVC_ROOT: one message. Ours, and a temporary copy of
    ours, are no other project."""
    for place in ("outer/.dvc", "ours/.dvc/tmp/exps/copy/.dvc", "ours/.dvc/tmp/exps/copy/deep"):
        (tmp_path / place).mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "ours")
    monkeypatch.setattr(session, "dvc_pid", os.getpid)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "outer"))
    monkeypatch.chdir(tmp_path / "ours")
    session.require_own_dvc()  # by hand, no DVC is above
    assert session.project_root() == tmp_path / "ours"
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "outer"))
    monkeypatch.setenv("DVC_STAGE", "train")
    with pytest.raises(UserError, match=rf"DVC_ROOT={tmp_path}/outer is another project's.*env -u DVC_ROOT"):
        session.require_own_dvc()
    for root in ("ours", "link"):
        monkeypatch.setenv("DVC_ROOT", str(tmp_path / root))
        for place in ("ours", "link", "ours/.dvc/tmp/exps/copy/deep"):
            monkeypatch.chdir(tmp_path / place)
            session.require_own_dvc()
