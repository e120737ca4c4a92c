"""Session: one invocation of DVC (or one stage run by hand), known in every process that belongs to it."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import psutil

_details: dict[str, Any] = {}  # of the stage that runs in this process
CLOCK_SLACK = 2.0  # seconds: a process's start is derived from the wall clock, which is set now and then


@cache
def root() -> Path:
    """The main checkout. DVC names it even when it runs an experiment in a temporary copy of the project."""
    if folder := os.environ.get("DVC_ROOT"):
        return Path(folder)
    with suppress(OSError, subprocess.CalledProcessError):
        found = subprocess.run(["git", "rev-parse", "--show-toplevel"], capture_output=True, text=True, check=True)
        return Path(found.stdout.strip())
    return Path.cwd()


@cache
def current() -> str:
    """`host:pid:start` of the DVC process above us, or of this process when a stage is run by hand.

    DVC has no name of its own for an invocation of `dvc repro`; its process is one.
    """
    me = psutil.Process()
    owner = me
    if "DVC_STAGE" in os.environ:
        with suppress(psutil.Error):  # a sandbox may hide other processes
            parents = me.parents()
            owner = next((process for process in parents if _is_dvc(process)), parents[0] if parents else me)
    return f"{platform.node()}:{owner.pid}:{owner.create_time():.2f}"


def same(one: str, other: str) -> bool:
    """Whether two names mean the same process (its start may be off by the clock's adjustments)."""
    if not one or not other:
        return False
    name, start = one.rsplit(":", 1)
    other_name, other_start = other.rsplit(":", 1)
    return name == other_name and abs(float(start) - float(other_start)) < CLOCK_SLACK


def dead(name: str) -> bool:
    """Whether the session is known to have ended. One on another machine may well be alive: no."""
    host, pid, start = name.rsplit(":", 2)
    if host != platform.node():
        return False
    try:
        process = psutil.Process(int(pid))
        return process.status() == psutil.STATUS_ZOMBIE or abs(process.create_time() - float(start)) >= CLOCK_SLACK
    except psutil.NoSuchProcess:
        return True
    except psutil.Error:
        return False


def detail(**facts: Any) -> None:
    """Add facts to this stage's line in the journal."""
    _details.update(facts)


@contextmanager
def noted() -> Iterator[None]:
    """Note in the journal that this stage ran in this session, how long, and how it ended.

    Under DVC only, and only by the first process of a distributed run. Kept outside data/: a duration differs each time.
    """
    stage = os.environ.get("DVC_STAGE")
    if stage is None or os.environ.get("RANK", "0") != "0":
        yield
        return
    started = time.time()
    code: object = 0
    try:
        yield
    except SystemExit as exit_:
        code = exit_.code or 0
        raise
    except BaseException:
        code = 1
        raise
    finally:
        line = {"stage": stage, "session": current(), "started": started, "seconds": time.time() - started, "exit": code}
        line |= _details
        with suppress(OSError):  # a full disk is the stage's own matter to report
            path = _journal()
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(path, "a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")


def ran(name: str) -> dict[str, dict[str, Any]]:
    """The stages that ran to their end in the session: stage -> its line in the journal (started, seconds, exit)."""
    return {line["stage"]: line for line in _lines() if same(line["session"], name)}


def newest(stage: str, **details: Any) -> dict[str, Any]:
    """The journal's last line of a stage that ended well with these details; empty if there is none."""
    lines = [
        line for line in _lines() if line["stage"] == stage and all(line.get(key) == value for key, value in details.items())
    ]
    return lines[-1] if lines else {}


def _lines() -> Iterator[dict[str, Any]]:
    """The journal's lines of stages that ended well, oldest first."""
    with suppress(OSError):
        for text in _journal().read_text(encoding="utf-8").splitlines():
            with suppress(ValueError, KeyError, TypeError):  # a line cut short by a crash
                line = json.loads(text)
                if line["exit"] == 0 and line["stage"] and line["session"]:
                    yield line


def _journal() -> Path:
    return root() / ".dvc" / "tmp" / "stages.jsonl"


def _is_dvc(process: psutil.Process) -> bool:
    """Whether the process is `dvc ...`, `python .../dvc ...` or `python -m dvc ...`."""
    try:
        words = process.cmdline()[:3]
    except psutil.Error:
        return False
    return any(Path(word).stem == "dvc" for word in words[:2]) or words[1:] == ["-m", "dvc"]
