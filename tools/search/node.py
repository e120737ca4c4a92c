"""Node: what a process of Ray does on the machine where a trial runs: fetch the code, start the trial there, wait for its end.

Ray sends this file itself, so it imports nothing of the project and nothing that is to be installed: the project comes with the
clone. The trial is a process of its own, because Ray's may be killed at any time; it ends when its standard input does.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Any

FOREIGN = ("GIT_", "DVC_", "PYTHON", "OMP_NUM_THREADS")  # variables of Ray's process that are not meant for the trial


def run(spec: dict[str, Any]) -> dict[str, Any]:
    """Run a trial; return its metrics, or the line that says why it failed.

    A trial that was killed with its node is resumed in the clone that it left, if it comes back to that machine.

    Args:
        spec: see `placing.Placing.spec`.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)  # Ray's way to cancel; a shell's background jobs ignore it
    place = Path(spec["place"] or Path(tempfile.gettempdir(), f"search-{os.getuid()}"), spec["name"])
    try:
        if not place.exists():
            fetch(spec, place)
        outcome = start(spec, place)
    except KeyboardInterrupt:  # pruned
        shutil.rmtree(place, ignore_errors=True)
        raise
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        outcome = {"error": f"on its node: {error}"}
    shutil.rmtree(place, ignore_errors=True)
    Path(f"{place}.lock").unlink(missing_ok=True)
    return outcome


def check(spec: dict[str, Any]) -> list[str]:
    """What this node lacks to run trials."""
    with tempfile.TemporaryDirectory(prefix="search-") as folder:
        try:
            fetch(spec, Path(folder, "clone"))
            return list(start(spec, Path(folder, "clone"), "--check")["missing"])
        except (OSError, subprocess.SubprocessError, ValueError) as error:
            return [str(error)]


def fetch(spec: dict[str, Any], place: Path) -> None:
    """Clone the commit, whole or not at all."""
    place.parent.mkdir(parents=True, exist_ok=True)
    begun = f".{place.name}."
    for left in place.parent.glob(f"{begun}*"):  # by an attempt that was killed here
        shutil.rmtree(left, ignore_errors=True)
    new = Path(tempfile.mkdtemp(prefix=begun, dir=place.parent))

    def git(*words: str, where: Path = new, **more: Any) -> None:
        same_bytes = ("-c", "core.autocrlf=false", "-c", "advice.detachedHead=false")
        try:
            done = subprocess.run(["git", *same_bytes, *words], cwd=where, capture_output=True, env=environment(spec), **more)
        except OSError as error:
            raise ValueError(f"git could not be started ({error.strerror})") from None
        if done.returncode:
            said = " ".join(done.stderr.decode("utf-8", "replace").split()).replace(spec["remote"], "the git remote")
            raise ValueError(f"git {words[0]} failed: {said}")

    try:
        git("clone", "--quiet", "--no-checkout", *spec["clone"], spec["remote"], str(new))
        git("checkout", "--quiet", "--detach", spec["commit"])
        if spec["patch"]:
            git("apply", "--whitespace=nowarn", input=spec["patch"].encode("utf-8", "surrogateescape"))
        for key, value in spec["author"].items():
            git("config", key, value)
        for name, text in spec["files"].items():
            path = new / spec["prefix"] / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        new.rename(place)
    except BaseException as error:
        shutil.rmtree(new, ignore_errors=True)
        if isinstance(error, OSError) and place.exists():  # another process was faster
            return
        raise


def start(spec: dict[str, Any], place: Path, *words: str) -> dict[str, Any]:
    """Start `python -m tools.search.trial` in the clone, and return what it prints last.

    Raises:
        ValueError: it printed nothing of use.
    """
    child = subprocess.Popen(
        [sys.executable, "-m", "tools.search.trial", *words],
        cwd=place / spec["prefix"],
        env=environment(spec),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert child.stdin and child.stdout and child.stderr
    said: list[str] = []
    errors: list[str] = []
    readers = [
        Thread(target=lambda: said.append(child.stdout.read() if child.stdout else ""), daemon=True),
        Thread(target=lambda: errors.append(child.stderr.read() if child.stderr else ""), daemon=True),
    ]
    for reader in readers:
        reader.start()
    with suppress(OSError):
        child.stdin.write(json.dumps({**spec, "folder": str(place)}) + "\n")
        child.stdin.flush()
    try:
        while any(reader.is_alive() for reader in readers):  # until it has closed its output: its first process ends at once
            time.sleep(0.1)
    finally:
        with suppress(OSError):
            child.stdin.close()
        for reader in readers:
            reader.join(120)
        child.wait()
    try:
        return dict(json.loads("".join(said).splitlines()[-1]))
    except (IndexError, ValueError, TypeError):
        last = ("".join(errors).strip() or "nothing").splitlines()[-1]
        raise ValueError(f"the trial could not be started with {sys.executable}: {last}") from None


def environment(spec: dict[str, Any]) -> dict[str, str]:
    """The trial's environment: this process's, without what is Ray's or another program's, and what the search wants."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(FOREIGN) or key.startswith("GIT_CONFIG_")}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    return kept | {"PATH": path} | dict(spec["environment"])
