"""Live run writer: the process beside training that logs to the MLflow run what comes on its standard input.

The other end of the pipe is stages/training/live_run.py.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from queue import SimpleQueue
from threading import Thread
from typing import IO

from stages.common.errors import UserError, warn_of_tracking
from stages.common.inputs import Inputs
from stages.common.params import Params, load_params
from stages.common.terminal import safe_streams
from stages.tracking import provenance, results, store
from stages.tracking.provenance import Provenance
from stages.tracking.run import open_run


def feed(lines: Iterator[str]) -> None:
    """Log what training sends: its start, then metrics and samples, then how it ended."""
    first, code = json.loads(next(lines)), Provenance.gather()
    before, same = Inputs(**first["inputs"]), load_params(Params).model_dump() == first["params"]
    if not same or (before.entry and before.differences(Inputs.read("train"))):  # the run would say what did not run
        raise UserError("params or code were edited while the training started.")
    run = open_run(first["params"], first["session"], code.name, first["settled"])
    run.tag(provenance.machine() | first["facts"])
    run.code(code)
    stop_watching, status = run.watch(), "KILLED"  # unless training lives long enough to say how it ended
    for line in lines:
        message = json.loads(line)
        if "metrics" in message:
            run.log(message["step"], results.by_step(message["metrics"]))
        elif "samples" in message:
            run.samples(message["step"], message["samples"])
        else:
            status = message["status"]
    stop_watching()
    if status == "RUNNING":
        run.flush()
        run.tag({"stage.train": "ran"})
    else:
        run.finish(status)


def read_ahead(pipe: IO[str]) -> Iterator[str]:
    """The pipe's lines, read as soon as they come: a full pipe would stop training while MLflow opens or a server hangs."""
    lines: SimpleQueue[str] = SimpleQueue()

    def read() -> None:
        for line in pipe:
            lines.put(line)
        lines.put("")

    Thread(target=read, daemon=True).start()
    return iter(lines.get, "")


if __name__ == "__main__":
    with safe_streams():  # training's terminal may be gone
        try:
            feed(read_ahead(sys.stdin))
        except Exception as error:  # whatever it is: training is worth more than its log
            warn_of_tracking(store.explain(error))
            sys.exit(1)
