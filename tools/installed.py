"""Check that the packages which requirements.txt pins are in this Python, and can be imported. It needs none of them itself.

python -I tools/installed.py requirements.txt      (make setup; TORCH=system: without torch's pin)

An installer may succeed and have installed nothing here: PIP_DRY_RUN, or a target in pip's configuration, is enough.
"""

from __future__ import annotations

import os
import re
import sys
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PIN = re.compile(r"([\w.-]+)==([^\s;]+)")
IMPORTED = ("datasets", "dvc", "mlflow", "torch")  # the largest
SHOWN = 5


def missing(requirements: str) -> list[str]:
    """The pins that are not fulfilled; a build of a version, such as 2.13.0+cpu, is that version."""
    found = []
    for name, pinned in (pin.groups() for line in requirements.splitlines() if (pin := PIN.match(line))):
        if name == "torch" and os.environ.get("TORCH") == "system":
            continue
        try:
            here = version(name)
        except PackageNotFoundError:
            here = ""
        if here.partition("+")[0] != pinned.partition("+")[0]:
            found.append(f"{name}=={pinned}")
    return found


def main(paths: list[str]) -> str | None:
    """What is wrong, for `sys.exit`; None = nothing."""
    found = [pin for path in paths for pin in missing(Path(path).read_text(encoding="utf-8"))]
    if found:
        more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        return (
            f"error: the installer ended without an error, but {sys.prefix} lacks {', '.join(found[:SHOWN])}{more}. Was it "
            "told to install elsewhere, or nothing? Look at `pip config list`, PIP_* and PYTHONPATH, then run the "
            "same command again"
        )
    for name in IMPORTED:
        try:
            import_module(name)
        except Exception as error:  # whatever a package that is not whole raises
            return f"error: {name} is installed and cannot be imported ({error}). Delete .venv, then run the same command"
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
