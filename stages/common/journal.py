"""Journal: which stages ran in a session, how long they took, how they ended, and what they say of themselves."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from stages.common.session import dvc_tmp, rank_and_size, session_id


@contextmanager
def record_stage() -> Iterator[dict[str, Any]]:
    """Note in the journal that this stage ran in this session, how long, and how it ended.

    Yields a dictionary of extra fields for the line. Under DVC only, and only by the first process of a distributed run.
    Kept outside data/: a duration differs each time.
    """
    stage, line = os.environ.get("DVC_STAGE"), dict[str, Any]()
    if stage is None or rank_and_size()[0] != 0:
        yield line
        return
    started, name = time.time(), session_id()
    code: object = 0
    try:
        yield line
    except SystemExit as exit_:
        code = exit_.code or 0
        raise
    except BaseException:
        code = 1
        raise
    finally:
        line |= {"stage": stage, "session": name, "started": started, "seconds": time.time() - started, "exit": code}
        with suppress(OSError):  # a full disk is the stage's own matter to report
            path = _journal()
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(path, "a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")


def finished_stages(name: str) -> dict[str, dict[str, Any]]:
    """The stages that ran to their end in the session: stage -> its line in the journal (started, seconds, exit)."""
    return {line["stage"]: line for line in _lines() if line["session"] == name}


def has_failed(name: str) -> bool:
    """Whether a stage of the session failed or was interrupted."""
    return any(line["session"] == name for line in _lines(well=False))


def last_entry(stage: str, **facts: Any) -> Mapping[str, Any]:
    """The journal's last line of a stage that ended well with these facts; empty if there is none."""
    lines = [
        line for line in _lines() if line["stage"] == stage and all(line.get(key) == value for key, value in facts.items())
    ]
    return lines[-1] if lines else {}


def _lines(well: bool = True) -> Iterator[dict[str, Any]]:
    """The journal's lines of stages that ended well, or of those that did not, oldest first."""
    with suppress(OSError):
        for text in _journal().read_text(encoding="utf-8").splitlines():
            with suppress(ValueError, KeyError, TypeError):  # a line cut short by a crash
                line = json.loads(text)
                if (line["exit"] == 0) is well and line["stage"] and line["session"]:
                    yield line


def _journal() -> Path:
    return dvc_tmp() / "stages.jsonl"
