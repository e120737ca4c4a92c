"""The launcher: what replaces the process, and what does not."""

from __future__ import annotations

import os
import sys

import pytest

from stages.training import distributed


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that would have replaced this process."""
    commands: list[list[str]] = []
    monkeypatch.setattr(os, "execve", lambda program, words, env: commands.append([*words, env[distributed.LAUNCHED]]))
    monkeypatch.setattr(sys, "argv", ["stages/train.py", "--debug"])
    for name in ("RANK", distributed.LAUNCHED):
        monkeypatch.delenv(name, raising=False)
    return commands


@pytest.mark.parametrize(
    ("launcher", "words"),
    [
        ("torchrun --nproc-per-node 2", ["-m", "torch.distributed.run", "--nproc-per-node", "2"]),
        ("python -X dev", ["-X", "dev"]),
    ],
)
def test_the_stage_starts_again_under_its_launcher(started: list[list[str]], launcher: str, words: list[str]) -> None:
    """The launcher of this environment gets its options, the stage and the stage's own arguments; PATH plays no part."""
    distributed.relaunch(launcher)
    assert started == [[sys.executable, *words, "-m", "stages.train", "--debug", "1"]]


@pytest.mark.parametrize("name", ["RANK", distributed.LAUNCHED])
def test_a_launched_process_is_not_launched_again(started: list[list[str]], name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Plain python needs no start; a process of torchrun, or one that was started so, does not start again."""
    distributed.relaunch("python")
    monkeypatch.setenv(name, "0")
    distributed.relaunch("torchrun --nproc-per-node 2")
    assert started == []
