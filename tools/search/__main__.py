"""Search the params: each trial is an experiment of its own, with its run in MLflow.

python -m tools.search -n width --trials 20 -S 'learning_rate=tag(log, interval(0.0003, 0.01))' -S 'n_embd=choice(96, 192)'

(make search ARGS="..."). The same command continues a search that was stopped; with more trials, -n and --trials are enough.
docs/search.md explains it.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import secrets
from contextlib import suppress

from stages.common import command
from stages.common.errors import UserError

NEEDED = ("ray", "optuna", "plotly")


def main(args: argparse.Namespace) -> None:
    """Start the search, if what it needs beside the pipeline is installed."""
    if lacking := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        raise UserError(
            f"{', '.join(lacking)}: not installed. `make search` installs what a search needs; in another environment: "
            "pip install -r requirements-search.txt"
        )
    os.environ |= {**settings_of_ray(args.address), **os.environ}  # Ray reads them when it is imported
    from tools.search import search

    search.run(args)


def settings_of_ray(address: str) -> dict[str, str]:
    """Variables that Ray reads: no usage reports. On this machine also a token, because Ray listens on all addresses, and no
    memory monitor, which would start a trial that needs too much memory again and again.
    """
    own = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_memory_monitor_refresh_ms": "0"}
    return {"RAY_USAGE_STATS_ENABLED": "0", **({} if address else own)}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to search, how, and where."""
    new = "; fixed when the search begins"
    parser.add_argument("-n", "--name", required=True, type=name, help="its experiments are NAME-0, NAME-1 ...")
    parser.add_argument("--trials", required=True, type=count, help="how many there are to be in all, earlier ones included")
    parser.add_argument("-S", dest="words", action="append", metavar="KEY=VALUES", help=f"a param and what to try{new}")
    parser.add_argument("--metric", help=f"one of docs/metrics.md (default: evaluate/nats_per_token){new}")
    parser.add_argument("--direction", choices=["minimize", "maximize"], help=f"default: minimize{new}")
    parser.add_argument("--sampler", choices=["tpe", "random", "grid"], help=f"default: tpe{new}")
    parser.add_argument("--prune", choices=["median", "hyperband"], help=f"stop bad trials early, by their val_loss{new}")
    parser.add_argument("--parallel", type=count, help="trials at a time (default: as many as there is room for)")
    parser.add_argument("--cpus-per-trial", type=count, default=1, help="cores, and `threads` (default: 1)")
    parser.add_argument("--gpus-per-trial", type=share, help="may be a share, as 0.5 (default: 1 where there are GPUs)")
    parser.add_argument("--address", default="", help="of a Ray cluster, or auto (default: Ray on this machine)")
    parser.add_argument("--storage", default="", help="the study's database, as sqlite:///file (default: search.db here)")


def name(text: str) -> str:
    """A name that is one for git, DVC, MLflow and the shell."""
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]{0,40}", text):
        raise argparse.ArgumentTypeError(f"{text!r}: take letters, digits, - and _, beginning with a letter")
    return text


def count(text: str) -> int:
    """A number of things."""
    if not (text.isdecimal() and 0 < int(text) <= 100_000):
        raise argparse.ArgumentTypeError(f"{text!r}: give a number from 1 to 100000")
    return int(text)


def share(text: str) -> float:
    """A number of GPUs: 0, 1, 2, ..., or a part of one.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    with suppress(ValueError):
        if 0 <= (value := float(text)) <= 1 or value in range(1, 1025):
            return value
    raise argparse.ArgumentTypeError(f"{text!r}: give a number from 0 to 1, or a whole one")


if __name__ == "__main__":
    command.run(main, __doc__, add_arguments)
