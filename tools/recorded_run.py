"""An MLflow run as it can be rebuilt: its commit, patch, params and dvc.lock, in a checkout of their own."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stages.common import session
from stages.common.errors import UserError
from stages.common.params import read_yaml
from stages.corpus import initial
from stages.tracking import places, store
from stages.tracking.git import git
from stages.tracking.run import COMPLETE
from tools import elsewhere


class Recorded:
    """A finished run of our store.

    Raises:
        UserError: there is no such run, it was not completed, or the store does not answer.
    """

    def __init__(self, run_id: str) -> None:
        self.client, self.experiment_id = store.as_user_error(store.connect)
        self.id = self._full(run_id)
        self._run = self.client.get_run(self.id)
        self.tags: Mapping[str, str] = self._run.data.tags
        self.metrics: Mapping[str, float] = self._run.data.metrics
        self.params: Mapping[str, str] = self._run.data.params
        if self.tags.get(COMPLETE) != "yes":
            raise UserError(
                f"run {self.id} was never completed. Run its experiment again first: {self.tags.get('command', 'dvc repro')}"
            )

    def file(self, name: str, folder: Path) -> Path | None:
        """Download one of the run's artifacts into the folder; None if it has no such artifact."""
        if not any(item.path == name for item in self.client.list_artifacts(self.id)):
            return None
        return Path(store.as_user_error(lambda: self.client.download_artifacts(self.id, name, str(folder))))

    def checkout(self, folder: Path) -> Path:
        """Put the run's code, params and dvc.lock into a new clone in the folder, and return the clone.

        Raises:
            UserError: the commit is not in this repository, or the patch does not fit on it.
        """
        commit = self.tags.get("git.commit", "")
        if not commit:
            raise UserError(f"run {self.id} was recorded without its commit ({self._why_no_commit()}); it cannot be rebuilt")
        try:
            clone = elsewhere.clone(folder / "checkout", commit, "--shared")
        except UserError as error:
            raise UserError(f"commit {commit} of the run cannot be checked out. Try git fetch --all\n{error}") from error
        if patch := self.file("code.patch", folder):
            git("-c", "core.autocrlf=false", "apply", "--whitespace=nowarn", str(patch), cwd=clone)
        for name in ("params.yaml", "dvc.lock"):
            if (found := self.file(name, folder)) is None:
                raise UserError(f"run {self.id} has no {name} ({self._why_no_file()}); it cannot be rebuilt")
            (clone / name).write_bytes(found.read_bytes())
        _lend_network(clone)
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
        """The run's whole id; its name or its id's first characters will do, in this order. Of several runs of one name the
        newest, complete ones first.
        """
        runs = store.search_runs(self.client, self.experiment_id, order_by=["attributes.start_time DESC"])
        runs = sorted(runs, key=lambda run: run.data.tags.get(COMPLETE) != "yes")
        named = [run for run in runs if run.info.run_name == run_id or run.info.run_id == run_id]
        begin = [run for run in runs if run_id and run.info.run_id.startswith(run_id)]
        if not named and len(begin) > 1:
            ids = "".join(f"\n  {run.info.run_id}  {run.info.run_name}" for run in begin[:10])
            raise UserError(f"the ids of {len(begin)} runs begin with {run_id!r}. Give more of it, or a name:{ids}")
        if named and (others := [run for run in begin if run not in named]):
            print(f"note: {run_id} is a run's name; {others[0].info.run_id} ({others[0].info.run_name}) begins with it too")
        for run in named or begin:
            return str(run.info.run_id)
        newest = "".join(f"\n  {run.info.run_id}  {run.info.run_name}" for run in runs[:5])
        raise UserError(
            f"no run {run_id!r} in the store {store.shown_uri()}. Give RUN=<id or name>; the newest are:{newest or ' none'}"
        )


def _lend_network(clone: Path) -> None:
    """Make the network that the run started from available to the clone: its folder, or its commit on the Hub.

    It is what DVC's cache has of data/download/init. Where the cache has none, the clone takes what is there today.
    """
    params: Any = read_yaml((clone / "params.yaml").read_text(encoding="utf-8"))
    if params.get("init_from") is None:
        return
    try:
        fetch_output(clone, initial.FOLDER)
        start = initial.read(clone / initial.FOLDER)
    except UserError:
        start = None
    here, there = session.project_root() / params["init_from"], clone / params["init_from"]
    if start and start["revision"]:
        elsewhere.set_params(clone, {"init_revision": start["revision"]})
    elif not Path(params["init_from"]).expanduser().is_absolute() and not there.exists() and (start or here.exists()):
        shutil.copytree(clone / initial.FOLDER if start else here, there, ignore=shutil.ignore_patterns("about.json"))


def fetch_output(project: Path, output: Path) -> None:
    """Put an output of another checkout's dvc.lock in its place there, from this project's DVC cache.

    Raises:
        UserError: the cache does not have it.
    """
    cache = session.project_root() / elsewhere.dvc(session.project_root(), "cache", "dir")
    elsewhere.dvc(project, "cache", "dir", "--local", str(cache))
    elsewhere.dvc(project, "checkout", "--quiet", output.as_posix())
