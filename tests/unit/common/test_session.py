"""Which process a session is, whether it lives, and what it ran."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from stages.common import journal, session


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A root of the test's own, and nothing remembered from another test."""
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.delenv("DVC_STAGE", raising=False)
    monkeypatch.delenv("RANK", raising=False)
    session.root.cache_clear()
    session.current.cache_clear()


def test_by_hand_the_session_is_this_process() -> None:
    """Without DVC above, a stage is a session of its own, alive while it runs."""
    assert session.current().split(":")[1] == str(os.getpid())
    assert not session.dead(session.current())


def _child(script: str, *argv: str) -> str:
    """Run a script with `argv[0]` as its name, and a grandchild that prints its session."""
    environment = os.environ | {"DVC_STAGE": "train", "PYTHONPATH": str(Path(__file__).parents[3])}
    return subprocess.run([sys.executable, script, *argv], capture_output=True, text=True, check=True, env=environment).stdout


def test_under_dvc_every_process_has_dvcs_session(tmp_path: Path) -> None:
    """Stages started by one `dvc`, directly or through a shell, have one session: dvc's process."""
    dvc = tmp_path / "dvc"
    dvc.write_text(
        textwrap.dedent("""
        import os, subprocess, sys
        say = "from stages.common import session; print(session.current())"
        print(os.getpid(), flush=True)
        subprocess.run([sys.executable, "-c", say], check=True)
        subprocess.run(f'{sys.executable} -c "{say}" ; true', shell=True, check=True)
        """)
    )
    pid, first, second = _child(str(dvc)).split()
    assert first == second
    assert first.split(":")[1] == pid
    assert session.dead(first), "it has ended"


def test_a_reused_process_number_is_another_session() -> None:
    """A process number that another program has now is no sign of life; a clock set by a second is no sign of death."""
    host, pid, start = session.current().rsplit(":", 2)
    later = f"{host}:{pid}:{float(start) + 100:.2f}"
    assert session.dead(later)
    assert not session.same(later, session.current())
    assert session.same(f"{host}:{pid}:{float(start) + 1:.2f}", session.current())


def test_another_machine_is_not_called_dead() -> None:
    """A session on another host may be alive: it is never taken over."""
    assert not session.dead("another-host:1:1.00")


def test_journal_has_the_stages_that_ended_well(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stage that ended well is in the journal with its duration; one that failed, or has no DVC, or is not rank 0, is not."""
    with journal.noted():
        pass
    for stage, code, rank in (("tokenize", 0, "0"), ("train", 1, "0"), ("evaluate", 0, "1")):
        monkeypatch.setenv("DVC_STAGE", stage)
        monkeypatch.setenv("RANK", rank)
        with pytest.raises(SystemExit), journal.noted():
            sys.exit(code)
    ran = journal.ran(session.current())
    assert list(ran) == ["tokenize"]
    assert 0 <= ran["tokenize"]["seconds"] < 5
    assert journal.ran("another-host:1:1.00") == {}


def test_journal_survives_a_cut_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A line that a crash cut short hides no other."""
    monkeypatch.setenv("DVC_STAGE", "train")
    with journal.noted():
        pass
    lines = tmp_path / ".dvc" / "tmp" / "stages.jsonl"
    lines.write_text('{"stage": "tok\n[]\n"text"\n' + lines.read_text())
    assert list(journal.ran(session.current())) == ["train"]
    assert json.loads(lines.read_text().splitlines()[-1])["stage"] == "train"
