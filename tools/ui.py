"""Show every run in the browser: MLflow's own server, on this project's store.

python -m tools.ui [--port 5001]      (make ui [PORT=5001])
"""

from __future__ import annotations

import argparse
import os
import socket
import sys

from stages.common import command
from stages.common.errors import UserError
from stages.tracking import store, unrecorded
from stages.tracking.git import clean_environment

LIGHT = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}  # skips MLflow's evaluation workers, which this project does not use


def main(args: argparse.Namespace) -> None:
    """Make the store if there is none yet, say where to look, and become the server."""
    uri = store.store_uri()
    if not uri.startswith("http"):
        need_port(args.port)
    client, experiment_id = store.as_user_error(store.connect)
    store.as_user_error(unrecorded.record)
    if not client.search_runs([experiment_id], max_results=1):
        print("no run is recorded yet. Record one: `dvc repro`, or, if that has nothing to do, `dvc repro -f -s track`")
    if uri.startswith("http"):
        print(f"the runs are on the server that MLFLOW_TRACKING_URI names: {store.table(uri, experiment_id)}")
        return
    page = store.table(f"http://127.0.0.1:{args.port}", experiment_id)
    print(f"MLflow starts in about ten seconds: {page}\n(Ctrl-C stops it)", flush=True)
    backend = {"MLFLOW_BACKEND_STORE_URI": uri}  # not on the command line, which every user of the machine can read
    os.execve(sys.executable, server(args.port), clean_environment(**LIGHT, **backend))


def server(port: int) -> list[str]:
    """The command of MLflow's server, for this machine only."""
    return [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]


def need_port(port: int) -> None:
    """Return if no other program listens on the port.

    Raises:
        UserError: one does.
    """
    with socket.socket() as visitor:
        visitor.settimeout(1)
        if visitor.connect_ex(("127.0.0.1", port)) == 0:
            other = port + 1 if port < 65535 else 5001
            raise UserError(f"port {port} cannot be used (another program listens there). Choose another: make ui PORT={other}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where the server listens."""
    parser.add_argument("--port", type=port_number, default=5000, help="default: 5000")


def port_number(text: str) -> int:
    """A port as people type it.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    if not (text.isdecimal() and 0 < int(text) < 65536):
        raise argparse.ArgumentTypeError(f"{text!r} is no port: give a number from 1 to 65535")
    return int(text)


if __name__ == "__main__":
    command.run(main, __doc__, add_arguments)
