"""A stage that refuses: run inside this process, as the command line would run it, with the rules that every refusal keeps."""

from __future__ import annotations

import hashlib
import importlib
import os
import time
from collections.abc import Sequence
from contextlib import chdir
from pathlib import Path

import pytest

from stages.common import command, session

SECONDS = 8.0  # of CPU time that a refusal may take at most; this machine's other work does not count


def digests(folder: Path) -> dict[str, str]:
    """Every file below the folder and its checksum; a link counts by where it leads."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            found[path.relative_to(folder).as_posix()] = os.readlink(path)
        elif path.is_file():
            found[path.relative_to(folder).as_posix()] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def refused(
    folder: Path, stage: str, words: Sequence[str], capsys: pytest.CaptureFixture[str], argv: Sequence[str] = ()
) -> str:
    """Run a stage in `folder` and check how it refuses; its message is returned.

    Exit code 1; one message, without a traceback, that has all the `words` in it; within seconds; no file is changed.
    """
    module = importlib.import_module(f"stages.{stage}")
    before, begin = digests(folder), time.process_time()
    session.root.cache_clear()
    capsys.readouterr()
    try:
        with chdir(folder), pytest.raises(SystemExit) as ended:
            command.run(module.main, module.__doc__, getattr(module, "add_arguments", None), list(argv))
    finally:
        session.root.cache_clear()
    seconds, message = time.process_time() - begin, capsys.readouterr().err
    assert ended.value.code == 1
    check_message(message, words)
    assert seconds < SECONDS
    assert digests(folder) == before, "a file was changed"
    return message


def check_message(message: str, words: Sequence[str]) -> None:
    """One message, without a traceback, that has all the words in it."""
    lines = message.splitlines()
    assert sum(line.startswith("error: ") for line in lines) == 1, message
    assert "Traceback" not in message, message
    assert len(message) < 6_000, f"{len(message):,} characters is no message"
    for word in words:
        assert word in message, f"{word!r} is not in: {message}"
