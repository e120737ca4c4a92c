"""Trial: one experiment of a search, in a clone of its own: `dvc exp run`, then `dvc exp push` to where the clone came from.

Ray's process on that machine starts it (node.py), tells it on its standard input what to do, and gets one line of JSON.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any

from stages.common.errors import UserError
from stages.tracking import results
from stages.tracking.git import clean_environment, git

PATIENCE = 60  # seconds that a trial which is stopped has to save itself


class Trial:
    """The trial in the current folder, a clone."""

    def __init__(self, spec: Mapping[str, Any]) -> None:
        self.spec, self.name = spec, str(spec["name"])
        self.log = Path(spec["folder"], ".dvc", "tmp", "search.log") if not spec["log"] else Path(spec["log"])
        self._dvc: subprocess.Popen[bytes] | None = None
        self.stopping = Event()  # set before DVC is stopped, so that `main` waits until its stage has ended, too

    def run(self) -> dict[str, Any]:
        """Run the experiment, unless an attempt that was killed has finished it already; and push it.

        The lock is held as long as this process or its DVC lives: an attempt that lost one of them is not joined by the next.
        """
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with open(f"{self.spec['folder']}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not git("for-each-ref", f"refs/exps/*/*/{self.name}"):
                changes = [word for change in self.spec["words"] for word in ("-S", change)]
                if why := self._type(lock.fileno(), "exp", "run", "-n", self.name, *changes):
                    return {"error": why}
            try:
                found = results.metrics()
            except UserError as error:
                return {"error": str(error)}
            if self.spec["metric"] not in found:
                return {"error": f"no stage wrote the metric {self.spec['metric']}"}
            if why := self._type(lock.fileno(), "exp", "push", "--force", *self.spec["push"], "origin", self.name):
                return {"error": f"it ran, but was not pushed: {why}"}
        return {"metrics": found}

    def stop_with(self, pipe: Any) -> None:
        """When the other end of the pipe has gone, stop DVC and its stage, which saves itself, and then this process."""
        pipe.read()
        self.stopping.set()
        if (dvc := self._dvc) is not None:
            for number in (signal.SIGTERM, signal.SIGKILL):
                with suppress(ProcessLookupError):
                    os.killpg(dvc.pid, number)
                    end = time.monotonic() + PATIENCE
                    while time.monotonic() < end:
                        dvc.poll()
                        os.killpg(dvc.pid, 0)
                        time.sleep(0.1)
        os._exit(1)

    def _type(self, lock: int, *words: str) -> str:
        """Run a DVC command; "", or in one line why it failed."""
        environment = clean_environment(**self.spec["environment"])
        with open(self.log, "ab") as log:
            begin = log.tell()
            self._dvc = subprocess.Popen(
                [sys.executable, "-m", "dvc", *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                pass_fds=[lock],
                start_new_session=True,
            )
            code = self._dvc.wait()
            self._dvc = None
        return "" if code == 0 else reason(self.log.read_bytes()[begin:].decode("utf-8", "replace"))


def reason(text: str) -> str:
    """The line of a failed command's output that says why."""
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    ours = [place for place, line in enumerate(lines) if line.startswith("error: ")]
    if ours:  # a stage's message, with the lines that belong to it
        more = lines[ours[-1] + 1 :]
        end = next((place for place, line in enumerate(more) if not line.startswith(" ")), len(more))
        return "; ".join(line.strip() for line in [lines[ours[-1]].removeprefix("error: "), *more[:end]])
    if "exited with -9" in text:
        return "killed, perhaps because memory ran out: lower batch_size, or run fewer trials at a time"
    said = [line for line in lines if line.startswith("ERROR: ")] or lines or ["no word"]
    return said[-1].removeprefix("ERROR: ")


def main() -> None:
    """Read what to do, do it, and print the outcome."""
    if os.fork():  # Ray ends its children with its process; this one is to save itself first
        os._exit(0)
    spec = json.loads(sys.stdin.readline())
    trial = Trial(spec)
    stopper = Thread(target=trial.stop_with, args=[sys.stdin], daemon=True)
    stopper.start()
    try:
        outcome = trial.run()
    except UserError as error:
        outcome = {"error": " ".join(str(error).split())}
    if trial.stopping.is_set():
        stopper.join()
    print(json.dumps(outcome), flush=True)
    os._exit(0)  # the thread waits for the pipe


if __name__ == "__main__":
    main()
