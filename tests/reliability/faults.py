"""Faults below Python: a small C library, compiled when first needed, that lets the disk be full or the clock run backwards;
a process that may not write everywhere even as root."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
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


def obeys_modes() -> None:
    """For a process that begins: the modes of files hold for it, as they do for everybody but root."""
    drop_from_bounding_set, overriding_modes = 24, 1  # PR_CAPBSET_DROP, CAP_DAC_OVERRIDE in Linux's headers
    ctypes.CDLL(None).prctl(drop_from_bounding_set, overriding_modes)


@contextmanager
def read_only(path: Path) -> Iterator[None]:
    """A file or a folder with all in it that cannot be written, for processes that begin with `obeys_modes`."""
    paths = [path, *path.rglob("*")] if path.is_dir() else [path]
    modes = {one: one.stat().st_mode for one in paths if not one.is_symlink()}
    try:
        for one, mode in modes.items():
            one.chmod(mode & ~0o222)
        probe = "import os, sys; sys.exit(os.access(sys.argv[1], os.W_OK))"
        if subprocess.run([sys.executable, "-c", probe, str(path)], preexec_fn=obeys_modes, check=False).returncode:
            pytest.skip("this system lets root write to anything")
        yield
    finally:
        for one, mode in modes.items():
            one.chmod(mode)
