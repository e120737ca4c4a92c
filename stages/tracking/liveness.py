"""Liveness: whether the DVC of a session still runs, known by a lock that is held as long as it does.

Host names and process numbers do not tell: a container has a new name each time, and two may share one. The lock is a file in
the main checkout, held by a small process of its own that waits for the end of DVC's process (which is not ours to change).
Whoever gets the lock knows that the session is over, in whatever container or under whatever name it ran. The process also
closes the run of an experiment that was to end before `track`.
"""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from filelock import Timeout

from stages.common import session
from stages.common.files import Lock

PATIENCE = 10.0  # seconds that the holder may take for the lock


def acquire(name: str) -> None:
    """Make sure that the session's lock is held until its process ends."""
    path = lock_file(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    if not _free(path):
        return
    holder = subprocess.Popen(
        [sys.executable, "-m", "stages.tracking.lock_holder", name],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # neither Ctrl-C nor the end of a terminal is meant for it
    )
    assert holder.stdout is not None
    with holder.stdout:
        holder.stdout.readline()  # it has the lock


def is_dead(name: str, ours: bool) -> bool:
    """Whether the session is known to have ended; one without a lock file here is assumed alive, unless it is surely `ours`."""
    path = lock_file(name)
    return (ours or path.exists()) and _free(path)


def release(name: str) -> None:
    """Remove the lock file of a session whose run is complete, or is resumed in another session."""
    with suppress(OSError):
        lock_file(name).unlink(missing_ok=True)


def lock_file(name: str) -> Path:
    """The session's lock."""
    return session.dvc_tmp() / "sessions" / f"{name.replace(':', '-')}.lock"


def _free(path: Path) -> bool:
    """Whether nobody holds the lock."""
    if not path.exists():
        return True
    try:
        with Lock(path, timeout=0):
            return True
    except Timeout:
        return False
