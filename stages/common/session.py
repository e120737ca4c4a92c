"""Session: one invocation of DVC (or one stage run by hand), known in every process that belongs to it."""

from __future__ import annotations

import os
import platform
import subprocess
from contextlib import suppress
from functools import cache
from pathlib import Path

import psutil

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


def _is_dvc(process: psutil.Process) -> bool:
    """Whether the process is `dvc ...`, `python .../dvc ...` or `python -m dvc ...`."""
    try:
        words = process.cmdline()[:3]
    except psutil.Error:
        return False
    return any(Path(word).stem == "dvc" for word in words[:2]) or words[1:] == ["-m", "dvc"]
