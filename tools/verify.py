"""Run a tiny pipeline from nothing in two clean clones of HEAD and compare the md5 of every file that they made.

python -m tools.verify      (make verify)

Exit code 0: all are the same. The clones are at different paths, and each has its own DVC cache and MLflow store.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from stages.common import command, errors, files, session
from stages.common.params import read_yaml, write_yaml
from stages.tracking import store
from stages.tracking.provenance import Provenance
from tools.recorded_run import clean_environment, clone_of
from tools.reproduce import show_outputs

TINY: dict[str, Any] = {  # a pipeline of seconds, for the tests too
    **{"max_samples": 60, "max_val_samples": 12, "n_layer": 2, "n_head": 2, "n_embd": 16, "block_size": 32, "stride": 32},
    **{"epochs": 2, "batch_size": 4, "warmup_steps": 5, "eval_every": 50, "checkpoint_every": 7, "eval_stride": 16},
    **{"threads": 1, "device": "cpu", "precision": "fp32", "num_samples": 2, "max_new_tokens": 12},
}


def main(args: argparse.Namespace) -> None:
    """Clone, run, compare."""
    code = Provenance.gather()
    print(f"commit {code.commit}" + ("; changes that are not committed are not in it" if code.patch else ""))
    with tempfile.TemporaryDirectory(prefix="verify-") as name:
        clones = [clone(Path(name) / place) for place in ("one", "the other one")]  # other paths, one with spaces
        one, two = (run(folder) for folder in clones)
    sys.exit(0 if show_outputs(one, two, ("first clone's", "second clone's")) else 1)


def clone(folder: Path) -> Path:
    """Clone HEAD into the folder, with tiny params and nothing to compare with, so that every stage runs.

    Returns:
        the project in the clone.

    Raises:
        UserError: there is no commit to clone.
    """
    folder = clone_of(session.root(), folder, "HEAD", "--no-hardlinks")
    if not (folder / "params.yaml").exists():
        raise errors.UserError("this commit has no params.yaml. Commit the project first")
    params = read_yaml((folder / "params.yaml").read_text(encoding="utf-8")) | TINY
    (folder / "params.yaml").write_text(write_yaml(params), encoding="utf-8")
    (folder / "dvc.lock").unlink(missing_ok=True)
    return folder


def run(folder: Path) -> dict[str, str]:
    """Run the pipeline of a clone and return the md5 of every file that it made.

    Raises:
        UserError: the pipeline failed.
    """
    print(f"in {folder}", flush=True)
    dvc = [sys.executable, "-m", "dvc", "repro", "--force", "--no-run-cache"]
    if subprocess.run(
        dvc, cwd=folder, env=clean_environment(MLFLOW_TRACKING_URI=store.sqlite_uri(folder / "mlflow.db")), check=False
    ).returncode:
        raise errors.UserError("the pipeline failed; see above")
    return md5s(folder)


def md5s(folder: Path) -> dict[str, str]:
    """The md5 of dvc.lock and of each file below data/, by path."""
    made = [path for path in sorted((folder / "data").rglob("*")) if path.is_file() and path.parent != folder / "data"]
    made = [path for path in made if path.name != ".gitignore"]
    return {path.relative_to(folder).as_posix(): files.digest(path, "md5") for path in [folder / "dvc.lock", *made]}


if __name__ == "__main__":
    command.run(main, __doc__)
