"""Command: how a stage starts and ends, and what it says when something is wrong."""

from __future__ import annotations

import argparse
import errno
import os
import re
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from stages.common import addresses, inputs, journal, session
from stages.common.errors import UserError
from stages.common.terminal import printable, safe_streams


def run(
    main: Callable[[argparse.Namespace], Mapping[str, Any] | None],
    doc: str | None,
    add_arguments: Callable[[argparse.ArgumentParser], object] | None = None,
    argv: Sequence[str] | None = None,
) -> None:
    """Run a stage as a command and exit: 0 done, 1 a problem in one message, 130 or 143 interrupted.

    What `main`, the stage, returns goes into its line of the journal, for `track`. `doc` is shown by `--help`.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m {Path(sys.argv[0]).parent.name}.{Path(sys.argv[0]).stem}",
        description=doc,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error (or set DEBUG=1)")
    if add_arguments is not None:
        add_arguments(parser)
    args = parser.parse_args(argv)
    debug = args.debug or os.environ.get("DEBUG", "") not in ("", "0")
    with safe_streams():
        try:
            session.require_own_dvc()
        except UserError as error:
            _fail(str(error), debug)
    with safe_streams(), journal.record_stage() as line:
        try:
            inputs.note()
            line |= dict(main(args) or {}) | {"ran_with": dict(inputs.noted().params), "code": inputs.noted().code()}
            inputs.check()
        except UserError as error:
            _fail(str(error), debug)
        except OSError as error:
            _fail(_explain(error), debug)
        except Exception as error:
            if (number := re.search(r"\(os error (\d+)\)", str(error))) is None:
                raise
            _fail(_explain(OSError(int(number[1]), os.strerror(int(number[1])))), debug)  # Rust's way to say it (safetensors)
        except KeyboardInterrupt:
            print("\ninterrupted; run the same command to resume", file=sys.stderr)
            sys.exit(130)
    _end()


def _end() -> None:
    """End a stage's process at once. Python takes a second to take its libraries down, before DVC looks at params and code."""
    if "DVC_STAGE" in os.environ and str(getattr(sys.modules["__main__"].__spec__, "name", "")).startswith("stages."):
        with suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(0)


def _fail(message: str, debug: bool) -> None:
    if debug:
        print(addresses.without_secrets(traceback.format_exc()), end="", file=sys.stderr)
    print(f"error: {printable(message)}", file=sys.stderr)
    sys.exit(1)


def _explain(error: OSError) -> str:
    """One sentence for what the operating system refused."""
    where = f"{error.filename}: " if error.filename else ""
    todo = {
        errno.ENOSPC: "the disk is full. Free some space and run the same command again",
        errno.EDQUOT: "the disk quota is used up. Free some space and run the same command again",
        errno.EFBIG: "the file would be larger than the limit allows (ulimit -f). Raise it and run the same command again",
        errno.EACCES: "permission denied. Make the file or folder readable and writable for this user",
        errno.EPERM: "permission denied. Make the file or folder readable and writable for this user",
        errno.EROFS: "the file system is read-only. Work in a writable copy",
        errno.EISDIR: "a folder stands where a file is expected. Move it away",
        errno.ENOTDIR: "a file stands where a folder is expected. Move it away",
        errno.ELOOP: "the symbolic links are circular. Give the real path",
        errno.ENAMETOOLONG: "the file name is too long. Give a shorter one",
    }.get(error.errno or 0)
    return where + (todo or f"{error.strerror or error}") + ". (--debug shows the traceback)"
