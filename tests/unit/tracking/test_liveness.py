"""Dead or alive: a lock says so, not a name or a number."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from stages.tracking import liveness

pytestmark = pytest.mark.kind("DVC, container or terminal gone")


@pytest.fixture(autouse=True)
def _checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkout of the test's own."""
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "checkout"))
    (tmp_path / "checkout").mkdir()


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    """A process that stands for DVC's."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    yield process
    process.kill()
    process.wait()


def gone(name: str, ours: bool = True) -> bool:
    """Whether the session is called dead within some seconds."""
    end = time.monotonic() + 20
    while not liveness.is_dead(name, ours):
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


@pytest.mark.parametrize("ours", [True, False])
def test_alive_until_its_process_ends(ours: bool, process: subprocess.Popen[bytes]) -> None:
    """A held session is alive; when its process is killed outright, everybody knows, under whatever host name."""
    name = f"a-host-that-is-not-here:{process.pid}:mark"
    liveness.acquire(name)
    liveness.acquire(name)  # twice is once
    assert not liveness.is_dead(name, ours)
    process.kill()
    process.wait()
    assert gone(name, ours)


def test_same_host_and_number_in_another_container(process: subprocess.Popen[bytes]) -> None:
    """Two containers of one host name whose DVCs have one process number: one's end is not the other's."""
    name, other = f"host:{process.pid}:one", "host:1:other"
    liveness.acquire(name)
    assert not liveness.is_dead(name, True)
    assert liveness.is_dead(other, True), "nobody holds it"
    assert not liveness.is_dead(name, True)
