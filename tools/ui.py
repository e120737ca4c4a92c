"""Show every run in the browser: MLflow's own server, on this project's store.

python -m tools.ui      (make ui)
"""

from __future__ import annotations

import argparse
import os
import sys

from stages.common import command
from stages.tracking import store, unrecorded

LIGHT = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}  # skips MLflow's evaluation workers, which this project does not use


def main(args: argparse.Namespace) -> None:
    """Make the store if there is none yet, say where to look, and become the server."""
    client, experiment_id = store.as_user_error(store.connect)
    store.as_user_error(unrecorded.record)
    uri = store.store_uri()
    if not client.search_runs([experiment_id], max_results=1):
        print("no run is recorded yet. Record one: `dvc repro`, or, if that has nothing to do, `dvc repro -f -s track`")
    if uri.startswith("http"):
        print(f"the runs are on the server that MLFLOW_TRACKING_URI names: {store.table(uri, experiment_id)}")
        return
    page = store.table(f"http://127.0.0.1:{args.port}", experiment_id)
    print(f"MLflow starts in about ten seconds: {page}\n(Ctrl-C stops it)", flush=True)
    os.execve(sys.executable, server(uri, args.port), os.environ | LIGHT)


def server(uri: str, port: int) -> list[str]:
    """The command of MLflow's server, for this machine only."""
    words = ["server", "--backend-store-uri", uri, "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    return [sys.executable, "-m", "mlflow", *words]


if __name__ == "__main__":
    command.run(main, __doc__, lambda parser: parser.add_argument("--port", type=int, default=5000))
