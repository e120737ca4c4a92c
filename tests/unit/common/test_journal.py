"""What the journal knows of the stages that ran."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from stages.common import journal, session


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A journal of the test's own."""
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.delenv("DVC_STAGE", raising=False)
    for name in session.LAUNCH:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(session, "dvc_pid", os.getpid)


def test_journal_has_the_stages_that_ended_well(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stage that ended well is in the journal with its duration; one that failed, or has no DVC, or is not rank 0, is not."""
    with journal.record_stage():
        pass
    for stage, code, rank in (("tokenize", 0, "0"), ("train", 1, "0"), ("evaluate", 0, "1")):
        monkeypatch.setenv("DVC_STAGE", stage)
        for name, value in zip(session.LAUNCH, (rank, "2", "localhost", "1"), strict=True):
            monkeypatch.setenv(name, value)
        with pytest.raises(SystemExit), journal.record_stage():
            sys.exit(code)
    ran = journal.finished_stages(session.session_id())
    assert list(ran) == ["tokenize"]
    assert journal.has_failed(session.session_id()) and not journal.has_failed("another-host:1:1.00")
    assert 0 <= ran["tokenize"]["seconds"] < 5
    assert journal.finished_stages("another-host:1:1.00") == {}


def test_journal_survives_a_cut_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A line that a crash cut short hides no other."""
    monkeypatch.setenv("DVC_STAGE", "train")
    with journal.record_stage() as line:
        line["facts"] = {"device": "cpu"}
    lines = tmp_path / ".dvc" / "tmp" / "stages.jsonl"
    lines.write_text('{"stage": "tok\n[]\n"text"\n' + lines.read_text())
    assert list(journal.finished_stages(session.session_id())) == ["train"]
    assert journal.last_entry("train", facts={"device": "cpu"})["exit"] == 0
    assert journal.last_entry("train", facts={"device": "cuda"}) == {}
