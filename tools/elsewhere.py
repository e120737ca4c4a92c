"""A pipeline elsewhere: a clone of a commit, with its own params, DVC cache and run store, and the md5s of what it makes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from stages.common import files, session
from stages.common.errors import UserError
from stages.common.params import read_yaml, write_yaml
from stages.tracking import store
from stages.tracking.git import clean_environment, git

TINY: dict[str, Any] = {  # a pipeline of seconds, for the tests too
    "max_samples": 60,
    "max_val_samples": 12,
    "n_layer": 2,
    "n_head": 2,
    "n_embd": 16,
    "block_size": 32,
    "stride": 32,
    "epochs": 2,
    "batch_size": 4,
    "warmup_steps": 5,
    "eval_every": 50,
    "checkpoint_every": 7,
    "eval_stride": 16,
    "threads": 1,
    "device": "cpu",
    "precision": "fp32",
    "num_samples": 2,
    "max_new_tokens": 12,
}


def clone(folder: Path, commit: str = "HEAD", *options: str) -> Path:
    """Clone the repository that this project is in, which may be larger, check the commit out, and return the project there.

    Raises:
        UserError: there is no such commit, or git refused.
    """
    top, prefix = (git("rev-parse", word, cwd=session.project_root()) for word in ("--show-toplevel", "--show-prefix"))
    commit = git("rev-parse", "--verify", f"{commit}^{{commit}}", cwd=session.project_root())
    same_bytes = ("-c", "core.autocrlf=false")
    git(*same_bytes, "clone", "--quiet", "--no-checkout", *options, top, str(folder.resolve()), cwd=session.project_root())
    git(*same_bytes, "checkout", "--quiet", "--detach", commit, cwd=folder)
    return folder / prefix


def set_params(project: Path, changes: Mapping[str, Any]) -> None:
    """Change values in a project's params.yaml, which is read and written as the stages read it.

    Raises:
        KeyError: it has no such key, so that one that was renamed is noticed.
    """
    path = project / "params.yaml"
    params = read_yaml(path.read_text(encoding="utf-8"))
    if unknown := changes.keys() - params.keys():
        raise KeyError(f"{path} has no {', '.join(sorted(unknown))}")
    path.write_text(write_yaml(params | dict(changes)), encoding="utf-8")


def parse_changes(pairs: Iterable[str]) -> dict[str, Any]:
    """Changes as people type them, `key=value`, with the value read as in params.yaml."""
    return {key: read_yaml(value) for key, _, value in (pair.partition("=") for pair in pairs)}


def lend_data(project: Path) -> None:
    """Let a data set that is a file or folder of this checkout, and not in git, be found from another one."""
    params: Any = read_yaml((project / "params.yaml").read_text(encoding="utf-8"))
    path = Path(str(params.get("dataset", "")))
    here, there = session.project_root() / path, project / path
    if not path.is_absolute() and here.exists() and not there.exists():
        there.parent.mkdir(parents=True, exist_ok=True)
        there.symlink_to(here.resolve())


def dvc(project: Path, *words: str, shown: Any = None) -> str:
    """Run a DVC command in a project, with a run store there; its output goes to `shown`, or is returned.

    Raises:
        UserError: it failed.
    """
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *words],
        cwd=project,
        env=clean_environment(MLFLOW_TRACKING_URI=run_store(project)),
        stdout=shown or subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        raise UserError(f"`dvc {' '.join(words)}` failed in {project}; see above")
    return (done.stdout or "").strip()


def run_store(project: Path) -> str:
    """The URI of the project's own run store."""
    return store.sqlite_uri(project / "mlflow.db")


def run_from_nothing(project: Path) -> None:
    """Run every stage, whatever the commit's dvc.lock and DVC's run cache have.

    Raises:
        UserError: the pipeline failed.
    """
    print(f"in {project}", flush=True)
    lend_data(project)
    (project / "dvc.lock").unlink(missing_ok=True)
    dvc(project, "repro", "--force", "--no-run-cache", shown=sys.stdout)


def md5s(project: Path) -> dict[str, str]:
    """The md5 of dvc.lock and of each file that a stage has made, by path."""
    made = [path for path in sorted((project / "data").glob("*/**/*")) if path.is_file() and path.name != ".gitignore"]
    return {path.relative_to(project).as_posix(): files.digest(path, "md5") for path in [project / "dvc.lock", *made]}


def show_outputs(before: Mapping[str, str], after: Mapping[str, str], titles: tuple[str, str] = ("recorded", "now")) -> bool:
    """Print a table of the outputs' md5s, with a title over each column, and return whether all are the same."""
    width = max(map(len, [*before, *after, "output"]))
    print(f"\n{'output':{width}}  {titles[0]:36}  {titles[1]:36}")
    for path in sorted({*before, *after}):
        one, two = before.get(path, "-"), after.get(path, "-")
        print(f"{path:{width}}  {one:36}  {two:36}  {'same' if one == two else 'DIFFERENT'}")
    same = bool(before) and before == after
    print(f"\n{'identical: every' if same else 'DIFFERENT: not every'} output has the {titles[0]} md5")
    return same
