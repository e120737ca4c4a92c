"""Scratch: a folder in which the stages of this checkout run with other params and a run store of their own.

The one place that writes a changed params.yaml: for benchmarks, and for whoever else needs a pipeline that is not this one.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from stages.common.params import read_yaml, write_yaml

ROOT = Path(__file__).resolve().parents[1]


def project(folder: Path, **params: Any) -> Path:
    """Make `folder` one in which the stages run: this checkout's dvc.yaml, and its params.yaml with these values changed."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copyfile(ROOT / name, folder / name)
    write_params(folder / "params.yaml", params)
    return folder


def write_params(path: Path, changes: Mapping[str, Any]) -> None:
    """Change values in a params.yaml, which is read and written as the stages read it.

    Raises:
        KeyError: it has no such key, so that a renamed one cannot be left behind without a word.
    """
    params = read_yaml(path.read_text(encoding="utf-8"))
    if unknown := changes.keys() - params.keys():
        raise KeyError(f"{path} has no {', '.join(sorted(unknown))}")
    path.write_text(write_yaml(params | dict(changes)), encoding="utf-8")


def parse(pairs: Iterable[str]) -> dict[str, Any]:
    """Changes as people type them, `key=value`, with the value read as params.yaml's are."""
    return {key: read_yaml(value) for key, _, value in (pair.partition("=") for pair in pairs)}


def environment(folder: Path) -> dict[str, str]:
    """The environment of what runs in `folder`: this checkout's code, the folder's own run store, nothing of an outer DVC."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("DVC_", "MLFLOW_"))}
    own = {"PYTHONPATH": str(ROOT), "DVC_ROOT": str(folder), "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}
    return kept | own | {"PYTHONUNBUFFERED": "1"}


def run(folder: Path, module: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a module, such as stages.train, in `folder` to its end.

    Raises:
        SystemExit: it failed; its last words are in the message.
    """
    done = subprocess.run(
        [sys.executable, "-m", module, *words], cwd=folder, env=environment(folder), capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{module} failed:\n{(done.stdout + done.stderr)[-2000:]}")
    return done
