"""The runtime sets a process up without costing it anything."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from stage_runs import ROOT

SWITCH = Path("/sys/kernel/mm/transparent_hugepage/enabled")
SCRIPT = """
import ctypes, re
from pathlib import Path
from stages.compute import machine

def kib(key):
    return int(re.search(rf"^{key}: +([0-9]+) kB", Path("/proc/self/smaps_rollup").read_text(), re.M)[1])

before = kib("Rss")
machine.keep_freed_memory()
taken = kib("Rss") - before
buffer = ctypes.create_string_buffer(256 << 20)
ctypes.memset(buffer, 1, len(buffer))
print(taken, kib("AnonHugePages"))
"""


@pytest.mark.skipif(not SWITCH.exists() or "[never]" in SWITCH.read_text(), reason="no huge pages on this system")
def test_large_buffers_are_in_huge_pages() -> None:
    """After the set-up, which takes no memory itself, a large buffer lies in huge pages."""
    done = subprocess.run([sys.executable, "-c", SCRIPT], cwd=ROOT, capture_output=True, text=True, check=True)
    taken, huge = map(int, done.stdout.split())
    assert taken < 8 << 10  # KiB
    assert huge > 64 << 10
