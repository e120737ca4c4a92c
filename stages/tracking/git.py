"""Git: the one place that starts it, and the environment for the programs that the project starts."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

from stages.common.errors import UserError

LEFT_BEHIND = ("GIT_", "DVC_", "PIP_", "PYTHON")  # prefixes of what hooks, shells and an outer DVC set; GIT_* overrides -C
WANTED = (  # a person's own settings
    "GIT_CONFIG_GLOBAL",
    "GIT_CONFIG_SYSTEM",
    "GIT_CONFIG_NOSYSTEM",
    "GIT_DISCOVERY_ACROSS_FILESYSTEM",
    "DVC_NO_ANALYTICS",
)


class GitError(UserError):
    """Git refused, or is not there. The text is what git said, on one line."""


def git(*words: str, cwd: Path | None = None, **more: str) -> str:
    """What a git command prints, without the last line end; `more` are variables of its environment.

    Raises:
        GitError: git failed.
    """
    try:
        done = subprocess.run(
            ["git", *words], cwd=cwd, capture_output=True, env=clean_environment(LC_ALL="C", **more), check=False
        )
    except OSError as error:
        raise GitError(f"git could not be started ({error.strerror})") from error
    if done.returncode:
        said = " ".join(done.stderr.decode("utf-8", "replace").split())
        raise GitError(f"git {' '.join(words)[:100]} failed: {said or f'exit code {done.returncode}'}")
    return done.stdout.decode("utf-8", "surrogateescape").removesuffix("\n")


def clean_environment(**more: str) -> dict[str, str]:
    """This environment for git, DVC or pip: without what would change where or how they work. `python` is this one."""
    kept = {key: value for key, value in os.environ.items() if key in WANTED or not key.startswith(LEFT_BEHIND)}
    if libraries := _library_paths():
        kept["PYTHONPATH"] = os.pathsep.join(libraries)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    return kept | {"PATH": path} | more


def _library_paths() -> list[str]:
    """The entries of PYTHONPATH that PyTorch comes from, as on clusters whose modules provide it."""
    found = importlib.util.find_spec("torch")
    entries = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    return [entry for entry in entries if found and found.origin and Path(found.origin).is_relative_to(Path(entry).absolute())]
