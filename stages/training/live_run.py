"""Live run: what training logs to its MLflow run, through a pipe to a process of its own.

It is a process because MLflow takes seconds to import and open, its calls hold Python's lock, and a server may hang: none of
this may cost training time. The process outlives a training that is killed, and marks its run. Training does not import the
code that logs it, so a change of that code does not train again.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import Any

from stages.common import inputs, session
from stages.common.errors import warn_of_tracking
from stages.common.params import DownloadParams, TokenizeParams, TrainParams

SETTLED = {**DownloadParams.model_fields, **TokenizeParams.model_fields, **TrainParams.model_fields}
PATIENCE = 60  # seconds that the end of training waits for the last points to be stored


class LiveRun:
    """The run as training sees it. Its methods raise nothing, and all but `close` return at once."""

    def __init__(self, writer: subprocess.Popen[str] | None) -> None:
        self._writer = writer  # the other process; None = nothing is logged

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Log metrics of a step. A step that an interrupted attempt has logged already is not logged again."""
        self.send({"step": step, "metrics": dict(metrics)})

    def samples(self, step: int, texts: Sequence[str]) -> None:
        """Log sample texts of a step."""
        self.send({"step": step, "samples": list(texts)})

    def send(self, message: Mapping[str, Any]) -> None:
        """Give the other process a message, one of those that `stages.tracking.live_run_writer` knows."""
        if self._writer is not None and self._writer.stdin is not None:
            with suppress(OSError):  # the other end has gone, with a warning
                self._writer.stdin.write(json.dumps(message) + "\n")
                self._writer.stdin.flush()

    def close(self, status: str) -> None:
        """Log how training ended, and wait until everything is stored, within limits."""
        self.send({"status": status})
        if self._writer is None:
            return
        try:
            with suppress(BrokenPipeError):
                self._writer.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            self._writer.kill()
            warn_of_tracking(f"its store is too slow: gave up after {PATIENCE} s.")
        self._writer.wait()


@contextmanager
def training_run(params: Mapping[str, Any], facts: Mapping[str, str] | None = None, logged: bool = True) -> Iterator[LiveRun]:
    """The experiment's MLflow run while it trains; marked when training fails or is interrupted, resumed by the next attempt.

    Of `params`, which are all, those that this stage and those before it read are logged now; those of another stage may be
    edited until it starts, and are logged at the end. `facts` are more tags, such as the device that training chose.
    """
    if not logged or session.rank_and_size()[0] != 0:  # of a distributed run's processes, the first logs
        yield LiveRun(None)
        return
    first = {"params": dict(params), "facts": dict(facts or {}), "session": session.session_id()}
    first |= {"settled": list(SETTLED), "inputs": asdict(inputs.noted())}
    try:
        writer = subprocess.Popen(
            [sys.executable, "-m", "stages.tracking.live_run_writer"],
            stdin=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            start_new_session=True,  # Ctrl-C is for training; this process ends when training has
        )
    except OSError as error:
        warn_of_tracking(f"no process for it ({error}).")
        writer = None
    run, status = LiveRun(writer), "KILLED"
    run.send(first)
    try:
        yield run
        status = "RUNNING"  # the stage `track` finishes it
    except Exception:
        status = "FAILED"
        raise
    finally:
        run.close(status)
