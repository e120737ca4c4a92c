"""Run a tiny pipeline from nothing in two clean clones of HEAD and compare the md5 of every file that they made.

Before that, each object in this checkout's DVC cache is compared with the md5 that is its name.

python -m tools.verify      (make verify)

Exit code 0: all are the same. The clones are at different paths, and each has its own DVC cache and MLflow store.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from stages.common import command
from stages.tracking.provenance import Provenance
from tools import cache_objects, elsewhere


def main(args: argparse.Namespace) -> None:
    """Look at the cache here; then clone, run, compare."""
    cache_objects.main(args)
    code = Provenance.gather()
    print(f"commit {code.commit}" + ("; changes that are not committed are not in it" if code.patch else ""))
    with tempfile.TemporaryDirectory(prefix="verify-") as name:
        one, two = (make(Path(name) / place) for place in ("one", "the other one"))  # other paths, one with spaces
    sys.exit(0 if elsewhere.show_outputs(one, two, ("first clone's", "second clone's")) else 1)


def make(folder: Path) -> dict[str, str]:
    """The md5s of what a tiny pipeline of HEAD makes in a clone in this folder."""
    project = elsewhere.clone(folder, "HEAD", "--no-hardlinks")
    elsewhere.set_params(project, elsewhere.TINY)
    elsewhere.run_from_nothing(project)
    return elsewhere.md5s(project)


if __name__ == "__main__":
    command.run(main, __doc__)
