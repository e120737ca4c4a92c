"""Checkpoints that a training may not use are named, with the reason and what removes them."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
from tiny import trained

from stages.training.checkpoint import Checkpoints, State

pytestmark = pytest.mark.kind("checkpoint that may not be used")
FACTS: dict[str, Any] = {"params": {"seed": 1}, "machine": {"threads": "2"}, "data": {}, "code": {"model/gpt2.py": "a"}}


def leave(folder: Path, facts: dict[str, Any]) -> None:
    """A training that stopped at step 7."""
    with Checkpoints(folder, facts=facts) as checkpoints:
        checkpoints.save(State(7, {}), *trained())


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"machine": {"threads": "1"}}, "threads: 2 -> 1"),
        ({"params": {"seed": 2}}, "seed: 1 -> 2"),
        ({"data": {"meta.json": "b"}}, "the tokens or the weights to start from"),
        ({"code": {"model/gpt2.py": "b"}}, "the code (model/gpt2.py)"),
        ({"code": {}}, "the code (a file that is gone)"),
    ],
)
def test_why_a_checkpoint_is_not_continued(
    change: dict[str, Any], reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before a training begins anew: others' checkpoints, their size, what is different, the command that removes them."""
    monkeypatch.chdir(tmp_path)
    leave(tmp_path / ".checkpoints" / "old", FACTS)
    with Checkpoints(tmp_path / ".checkpoints" / "new", facts=FACTS | change) as checkpoints:
        said = checkpoints.explain_new_start()
    assert f".checkpoints/old: step 7, 0.0 MB; different: {reason}" in said
    words = shlex.split(said.partition("To remove them: ")[2])
    assert words == ["rm", "-r", ".checkpoints/old"]
    shutil.rmtree(words[-1])
    with Checkpoints(tmp_path / ".checkpoints" / "new", facts=FACTS | change) as checkpoints:
        assert checkpoints.explain_new_start() == ""


def test_no_note_about_checkpoints_in_use(tmp_path: Path) -> None:
    """A training with a checkpoint of its own says nothing; nor is one that runs now offered for removal."""
    leave(tmp_path / "old", FACTS)
    with Checkpoints(tmp_path / "old", facts=FACTS) as runs:
        assert runs.explain_new_start() == ""
        with Checkpoints(tmp_path / "new", facts=FACTS) as checkpoints:
            assert checkpoints.explain_new_start() == ""


def test_checkpoints_of_an_earlier_version_are_named_too(tmp_path: Path) -> None:
    """They have no list of facts, or another one."""
    leave(tmp_path / "old", FACTS)
    for spoil in ((tmp_path / "old" / "facts.json").write_text, lambda _: (tmp_path / "old" / "facts.json").unlink()):
        spoil("{}")
        with Checkpoints(tmp_path / "new", facts=FACTS) as checkpoints:
            assert "different: the code (it is of an earlier version)" in checkpoints.explain_new_start()
