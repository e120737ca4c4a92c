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
from contextlib import suppress
from pathlib import Path
from typing import Any

FOREIGN = ("GIT_", "DVC_", "PYTHON", "OMP_NUM_THREADS")  # variables of Ray's process that are not meant for the trial
PATIENCE = 120  # seconds that a trial which is stopped has to end


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
        forget(place)
        raise
    except (OSError, ValueError) as error:
        outcome = {"error": f"on its node: {error}"}
    forget(place)
    return outcome


def forget(place: Path) -> None:
    """Remove a trial's clone, and those that were not completed."""
    for folder in (place, *place.parent.glob(f".{place.name}.*")):
        shutil.rmtree(folder, ignore_errors=True)
    Path(f"{place}.lock").unlink(missing_ok=True)


def fetch(spec: dict[str, Any], place: Path) -> None:
    """Clone the commit, whole or not at all.

    Raises:
        ValueError: git failed; what it had made is beside the place, for `forget` to remove.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(prefix=f".{place.name}.", dir=place.parent))

    def git(*words: str, **more: Any) -> None:
        same_bytes = ("-c", "core.autocrlf=false", "-c", "advice.detachedHead=false")
        done = subprocess.run(["git", *same_bytes, *words], cwd=new, capture_output=True, env=environment(spec), **more)
        if done.returncode:
            said = " ".join(done.stderr.decode("utf-8", "replace").split()).replace(spec["remote"], "the git remote")
            raise ValueError(f"git {words[0]} failed: {said}")

    git("clone", "--quiet", "--no-checkout", *spec["clone"], spec["remote"], ".")
    git("checkout", "--quiet", "--detach", spec["commit"])
    if spec["patch"]:
        git("apply", "--whitespace=nowarn", input=spec["patch"].encode("utf-8", "surrogateescape"))
    for key, value in spec["author"].items():
        git("config", key, value)
    for name, text in spec["files"].items():
        path = new / spec["prefix"] / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    try:
        new.rename(place)
    except OSError:
        if not place.exists():
            raise
        shutil.rmtree(new, ignore_errors=True)  # another process was faster


def start(spec: dict[str, Any], place: Path) -> dict[str, Any]:
    """Start `python -m tools.search.trial` in the clone, and return what it prints last.

    Raises:
        ValueError: it printed nothing of use.
    """
    theirs, ours = os.pipe()
    child = subprocess.Popen(
        [sys.executable, "-m", "tools.search.trial"],
        cwd=place / spec["prefix"],
        env=environment(spec),
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    os.close(theirs)
    lifeline = os.fdopen(ours, "w")
    said, errors = None, ""
    try:
        with suppress(OSError):  # it could not even start; it has said why
            print(json.dumps({**spec, "folder": str(place)}), file=lifeline, flush=True)
        while said is None:  # in short waits, because Ray's way to cancel does not interrupt a long one
            with suppress(subprocess.TimeoutExpired):
                said, errors = child.communicate(timeout=0.1)  # until its output is closed: its first process ends at once
    finally:
        with suppress(OSError):
            lifeline.close()
        with suppress(subprocess.TimeoutExpired):
            child.communicate(timeout=PATIENCE)
    try:
        return dict(json.loads(said.splitlines()[-1]))
    except (IndexError, ValueError, TypeError):
        last = (errors.strip() or "nothing").splitlines()[-1]
        raise ValueError(f"the trial could not be started with {sys.executable}: {last}") from None


def environment(spec: dict[str, Any]) -> dict[str, str]:
    """The trial's environment: this process's, without what is Ray's or another program's, and what the search wants."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(FOREIGN) or key.startswith("GIT_CONFIG_")}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    return kept | {"PATH": path} | dict(spec["environment"])
