"""Faults below Python: a small C library, compiled when first needed, that lets the disk be full or the clock run backwards."""

from __future__ import annotations

import shutil
import subprocess
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import pytest

SOURCE = Path(__file__).with_name("faults.c")


@cache
def library() -> str:
    """The compiled library's path; a test that needs it is skipped where there is no C compiler or no LD_PRELOAD."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or not Path("/proc/self/fd").exists():
        pytest.skip("needs Linux and a C compiler")
    built = Path(mkdtemp(prefix="faults-")) / "faults.so"
    subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", str(built), str(SOURCE), "-ldl"], check=True)
    return str(built)


def full_disk(under: Path, at: int, count: Path | None = None) -> dict[str, str]:
    """Environment: from write number `at` (0 = never) to a file below `under`, the disk is full; `count` gets their number."""
    more = {"FULL_COUNT": str(count)} if count else {}
    return {"LD_PRELOAD": library(), "FULL_UNDER": f"{under}/", "FULL_AT": str(at)} | more


def clock_backwards(since: float) -> dict[str, str]:
    """Environment: from that moment (seconds since 1970) on the wall clock runs backwards."""
    return {"LD_PRELOAD": library(), "CLOCK_TURNS": str(int(since))}
