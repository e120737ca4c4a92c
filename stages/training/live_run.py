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
from typing import IO, Any

from stages.common import inputs, session
from stages.common.errors import warn_of_tracking
from stages.common.params import DownloadParams, TokenizeParams, TrainParams

SETTLED = {**DownloadParams.model_fields, **TokenizeParams.model_fields, **TrainParams.model_fields}
PATIENCE = 60  # seconds that the end of training waits for the last points to be stored


class LiveRun:
    """The run as training sees it. Its methods return at once and never raise."""

    def __init__(self, pipe: IO[str] | None) -> None:
        self._pipe = pipe

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Log metrics of a step. A step that an interrupted attempt has logged already is not logged again."""
        self._send({"step": step, "metrics": dict(metrics)})

    def samples(self, step: int, texts: Sequence[str]) -> None:
        """Log sample texts of a step."""
        self._send({"step": step, "samples": list(texts)})

    def close(self, status: str) -> None:
        """Log how training ended."""
        self._send({"status": status})

    def _send(self, message: dict[str, Any]) -> None:
        if self._pipe is not None:
            try:
                self._pipe.write(json.dumps(message) + "\n")
                self._pipe.flush()
            except OSError:  # the other end has gone, with a warning
                self._pipe = None


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
    with _writer() as pipe:
        run, status = LiveRun(pipe), "KILLED"
        run._send(first)
        try:
            yield run
            status = "RUNNING"  # the stage `track` finishes it
        except Exception:
            status = "FAILED"
            raise
        finally:
            run.close(status)


@contextmanager
def _writer() -> Iterator[IO[str] | None]:
    """The other process, and our end of its standard input."""
    writer = subprocess.Popen(
        [sys.executable, "-m", "stages.tracking.live_run_writer"],
        stdin=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        start_new_session=True,  # Ctrl-C is for training; this process ends when training has
    )
    try:
        yield writer.stdin
    finally:
        try:
            with suppress(BrokenPipeError):
                writer.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            writer.kill()
            warn_of_tracking(f"its store is too slow: gave up after {PATIENCE} s.")
        writer.wait()
