"""Lock holder: the process that holds a session's lock until its DVC has ended, see `liveness`, and then closes its run."""

from __future__ import annotations

import os
import sys

from filelock import Timeout

from stages.common import session
from stages.common.files import Lock
from stages.tracking.liveness import PATIENCE, lock_file


def main(name: str) -> None:
    """Hold the session's lock until its process ends, then close its run, if it is still open."""
    path = lock_file(name)
    try:
        with Lock(path, timeout=PATIENCE):
            print("held", flush=True)
            from stages.tracking import run  # now: the current folder may be a temporary copy, which DVC removes

            os.chdir(session.project_root())
            session.wait_for_end(int(name.split(":")[-2]))
    except Timeout:
        return
    if path.exists():  # else `track` has completed the run
        run.close_incomplete(name)


if __name__ == "__main__":
    main(sys.argv[1])
