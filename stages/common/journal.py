"""Journal: which stages ran in a session, how long they took, and how they ended."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from stages.common.session import current, root, same

_details: dict[str, Any] = {}  # of the stage that runs in this process


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
