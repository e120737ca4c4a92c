"""Open the page to look inside a network: of a recorded run, or what `dvc repro` has made here.

python -m tools.explore [run]      (make explore RUN=<MLflow run id or name>)
"""

from __future__ import annotations

import argparse
import tempfile
import webbrowser
from pathlib import Path

from stages.common import command, files
from stages.common.errors import UserError
from tools.recorded_run import Recorded

PAGE = "explorer.html"
HERE = Path("data/explain") / PAGE


def main(args: argparse.Namespace) -> None:
    """Find the page, say where it is, and open it, if there is a browser. It is one file and needs no server."""
    page = of_run(args.run) if args.run else files.require(HERE, made_by="explain")
    print(f"{page}", flush=True)
    if args.no_browser or not webbrowser.open(page.resolve().as_uri()):
        print("open it in a browser: it is one file and works without a network")


def of_run(name: str) -> Path:
    """The page of a run, as a file that stays after this command, for the browser to read.

    Raises:
        UserError: there is no such run, or it has no page.
    """
    run = Recorded(name)
    page = run.file(PAGE, Path(tempfile.mkdtemp(prefix=f"explorer-{run.id[:8]}-")))
    if page is None:
        raise UserError(f"run {run.id} has no {PAGE}: it is older than the stage explain. Give another RUN, or run it again")
    return page


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which page, and whether to open it."""
    parser.add_argument("run", nargs="?", help="MLflow run id, its first characters, or name (default: the page in data/)")
    parser.add_argument("--no-browser", action="store_true", help="only print where the page is")


if __name__ == "__main__":
    command.run(main, __doc__, add_arguments)
