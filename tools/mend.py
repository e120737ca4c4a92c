"""Repair the files that DVC was writing when it was killed, so that `dvc repro` can start. `make repro` does this first.

DVC writes .dvc/tmp/rwlock and dvc.lock in place: a kill at that moment, or a power cut, leaves the one empty or the other cut
short, and DVC then refuses to start. What the stages had made by then is in DVC's cache. A kill while DVC copies an output
leaves a file with a temporary name beside it, which nothing else would remove. A local data set or network that is gone
leaves a broken link, on which DVC fails.

    python -m tools.mend
"""

from __future__ import annotations

import argparse
import re
import sys
from contextlib import suppress
from pathlib import Path

from dvc.exceptions import DvcException
from dvc.schema import COMPILED_LOCKFILE_SCHEMA
from dvc.utils import strictyaml
from dvc.utils.serialize import YAMLFileCorruptedError

from stages.common import command, session
from stages.tracking.git import GitError, git

LOCK, DATA = Path("dvc.lock"), Path("data")
LINKS = [DATA / "identify" / name for name in ("dataset", "init")]
TEMPORARY = re.compile(r".*\.[\w-]{22}\.tmp")  # dvc_objects.fs.utils.tmp_fname


def main(args: argparse.Namespace) -> None:
    """Look at these files, and repair them if no DVC is running here, which may be writing them now."""
    for link in LINKS:
        if link.is_symlink() and not link.exists():  # DVC would fail on it; the stage `identify` says what is wrong
            link.unlink()
    rwlock = session.dvc_tmp() / "rwlock"
    if not (empty(rwlock) or damaged(LOCK) or unfinished(DATA)):
        return
    from dvc.lock import LockError
    from dvc.repo import Repo

    with suppress(LockError), Repo().lock:
        if empty(rwlock):
            rwlock.unlink()
        if damaged(LOCK):
            restore_committed(session.dvc_tmp() / "dvc.lock.damaged")
        for path in unfinished(DATA):
            path.unlink()


def empty(path: Path) -> bool:
    """Whether it is there, and nothing in it."""
    return path.exists() and path.stat().st_size == 0


def damaged(lock: Path) -> bool:
    """Whether it is there, and DVC cannot read it. One with git's marks of a conflict is not damaged: that is for people."""
    if not lock.exists() or b"<<<<<<< " in lock.read_bytes():
        return False
    try:
        strictyaml.load(str(lock), COMPILED_LOCKFILE_SCHEMA)
    except (DvcException, YAMLFileCorruptedError):
        return True
    return False


def unfinished(folder: Path) -> list[Path]:
    """The files in it, at any depth, that DVC was writing under a temporary name."""
    return [path for path in folder.rglob("*.tmp") if TEMPORARY.fullmatch(path.name)]


def restore_committed(aside: Path) -> None:
    """Put the committed dvc.lock in the place of the damaged one, which goes aside; or none where none is committed."""
    LOCK.replace(aside)
    now = "DVC makes a new one"
    with suppress(GitError):  # no git, or not committed
        committed = git("cat-file", "blob", f"HEAD:./{LOCK}")
        LOCK.write_text(f"{committed}\n", encoding="utf-8", newline="\n")
        now = "the committed one is back"
    print(
        f"note: {LOCK} could not be read, as after a kill while DVC wrote it: {now}, and what has run since then comes from "
        f"DVC's cache. The damaged file is kept as {aside}",
        file=sys.stderr,
    )


if __name__ == "__main__":
    command.run(main, __doc__)
