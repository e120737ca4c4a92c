"""Recorded run: an MLflow run as it can be rebuilt: its commit, patch, params and dvc.lock, as a checkout of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stages.common import session
from stages.common.errors import UserError
from stages.common.params import read_yaml
from stages.tracking import places, store
from stages.tracking.run import COMPLETE

DVC_SETS = ("DVC_ROOT", "DVC_STAGE", "DVC_EXP_NAME", "DVC_EXP_BASELINE_REV")  # not for the checkout's own DVC to see


class Recorded:
    """A finished run of our store.

    Raises:
        UserError: there is no such run, it was not completed, or the store does not answer.
    """

    def __init__(self, run_id: str) -> None:
        self.client, self.experiment_id = store.strictly(store.connect)
        self.id = self._full(run_id)
        self._run = self.client.get_run(self.id)
        self.tags: Mapping[str, str] = self._run.data.tags
        self.metrics: Mapping[str, float] = self._run.data.metrics
        if self.tags.get(COMPLETE) != "yes":
            raise UserError(
                f"run {self.id} was never completed. Run its experiment again first: {self.tags.get('command', 'dvc repro')}"
            )

    def file(self, name: str, folder: Path) -> Path | None:
        """Download one of the run's artifacts into the folder; None if it has no such artifact."""
        if not any(item.path == name for item in self.client.list_artifacts(self.id)):
            return None
        return Path(store.strictly(lambda: self.client.download_artifacts(self.id, name, str(folder))))

    def checkout(self, folder: Path) -> Path:
        """Put the run's code, params and dvc.lock into a new clone in the folder, and return the clone.

        Raises:
            UserError: the commit is not in this repository, or the patch does not fit on it.
        """
        commit = self.tags.get("git.commit", "")
        if not commit:
            raise UserError(f"run {self.id} was recorded without its commit ({self._why_no_commit()}); it cannot be rebuilt")
        if _git("cat-file", "-e", f"{commit}^{{commit}}", cwd=session.root()).returncode:
            raise UserError(f"the run's commit {commit} is not in this repository. Fetch it: git fetch --all")
        clone = clone_of(session.root(), folder / "checkout", commit, "--shared")
        if patch := self.file("code.patch", folder):
            done = _git("-c", "core.autocrlf=false", "apply", "--whitespace=nowarn", str(patch), cwd=clone)
            if done.returncode:
                raise UserError(f"the run's patch does not fit on its commit: {done.stderr.strip()}")
        for name in ("params.yaml", "dvc.lock"):
            if (found := self.file(name, folder)) is None:
                raise UserError(f"run {self.id} has no {name} ({self._why_no_file()}); it cannot be rebuilt")
            (clone / name).write_bytes(found.read_bytes())
        _lend_local_data(clone)
        return clone

    def _why_no_commit(self) -> str:
        state = self.tags.get("git.dirty", "unknown")
        return self.tags.get("git.problem") or ("its folder was in no git repository" if state == "no repository" else state)

    def _why_no_file(self) -> str:
        place = places.local_path(self._run.info.artifact_uri)
        if place is not None and not place.exists():
            return f"its files are not where the store says: {place}. Put them back there"
        return "stages run by hand have none"

    def _full(self, run_id: str) -> str:
        """The run's whole id; its first characters or its name will do. Of several the newest, complete ones first."""
        runs = self.client.search_runs([self.experiment_id], order_by=["attributes.start_time DESC"])
        runs = sorted(runs, key=lambda run: run.data.tags.get(COMPLETE) != "yes")
        for run in runs:
            if run_id and (run.info.run_id.startswith(run_id) or run.info.run_name == run_id):
                return str(run.info.run_id)
        newest = "".join(f"\n  {run.info.run_id}  {run.info.run_name}" for run in runs[:5])
        raise UserError(f"no run {run_id!r} in {store.store_uri()}. Give RUN=<id or name>; the newest are:{newest or ' none'}")


def clone_of(project: Path, folder: Path, commit: str, *options: str) -> Path:
    """Clone the repository that the project is in, which may be larger, and check the commit out.

    Returns:
        the project in the clone.

    Raises:
        UserError: git refused; in its own words.
    """
    top, prefix = (_git("rev-parse", word, cwd=project) for word in ("--show-toplevel", "--show-prefix"))
    if top.returncode:
        raise UserError(f"git could not be asked: {' '.join(top.stderr.split())}")
    for words in (
        ("-c", "core.autocrlf=false", "clone", "--quiet", "--no-checkout", *options, top.stdout.rstrip("\n"), str(folder)),
        ("-C", str(folder), "-c", "core.autocrlf=false", "checkout", "--quiet", "--detach", commit),
    ):
        if (done := _git(*words, cwd=project)).returncode:
            raise UserError(f"git {words[2] if words[0] == '-c' else 'checkout'} failed: {' '.join(done.stderr.split())}")
    return folder / prefix.stdout.rstrip("\n")


def clean_environment(**more: str) -> dict[str, str]:
    """This environment without what an outer DVC has set; `python` is this one, as a clone has no .venv."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    return {key: value for key, value in os.environ.items() if key not in DVC_SETS} | {"PATH": path} | more


def _lend_local_data(clone: Path) -> None:
    """Let a data set that is a file or folder of the main checkout, and not in git, be found from the clone."""
    params: Any = read_yaml((clone / "params.yaml").read_text(encoding="utf-8"))
    path = Path(str(params.get("dataset", "")))
    here, there = session.root() / path, clone / path
    if not path.is_absolute() and here.exists() and not there.exists():
        there.parent.mkdir(parents=True, exist_ok=True)
        there.symlink_to(here)


def _git(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", *words], cwd=cwd, capture_output=True, text=True, check=False)
