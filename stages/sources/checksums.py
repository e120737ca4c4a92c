"""Checksums of a data set's files, remembered, so that a file that has not changed is not read again.

They are kept in the main checkout, where experiments that run in a temporary copy find them too.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from stages.common import files, session
from stages.common.progress import bar

JUST_NOW = 0.1  # seconds; a file that was written so recently may change again without another time of change


def memory() -> Path:
    """Where they are: for each path the file's size, times and inode, and the checksum that it had with these."""
    return session.dvc_tmp() / "checksums.json"


def sha256(paths: Collection[Path]) -> dict[Path, str]:
    """Each file's sha256; only a file that is new or changed is read."""
    known, found = _known(), dict[Path, str]()
    with bar(len(paths), "check the files", "file", delay=1.0) as progress:
        for path in paths:
            key, before = os.path.abspath(path), _state(path)
            if key in known and known[key][:-1] == before:
                found[path] = str(known[key][-1])
            else:
                found[path] = files.digest(path)
                if _state(path) == before and time.time() - path.stat().st_ctime > JUST_NOW:
                    known[key] = [*before, found[path]]
            progress.update()
    if memory().parent.is_dir():  # not where a stage is run by hand outside a project
        files.write_text(memory(), json.dumps(known))
    return found


def has_seen(path: Path) -> bool:
    """Whether the file, or a file in the folder, was there at an earlier time."""
    place = os.path.abspath(path)
    return any(key == place or key.startswith(place + os.sep) for key in _known())


def forget() -> None:
    """Forget them all: a file has turned out to hold something else, with the same size and times."""
    memory().unlink(missing_ok=True)


def _state(path: Path) -> list[object]:
    facts = path.stat()
    return [facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_ino]


def _known() -> dict[str, list[object]]:
    with suppress(OSError, ValueError):
        return dict(json.loads(memory().read_text(encoding="utf-8")))
    return {}
