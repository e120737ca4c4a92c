"""Placing: Ray runs the trials, on this machine or on the nodes of a cluster, and again those whose node died."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import ray
from configobj import ConfigObj  # type: ignore[import-untyped]

from stages.common import session
from stages.common.errors import UserError
from stages.tracking.git import GitError, git
from stages.tracking.provenance import Provenance
from tools import elsewhere
from tools.search import node

TRACKING = "MLFLOW_TRACKING_"  # the server's address, user, password: for the trials' environment, never for a message


class Placing:
    """The machines that run trials.

    Args:
        address: of a Ray cluster; "" = Ray on this machine, for this search.
        cpus: cores of each trial.
        gpus: GPUs of each trial; None = one where there are GPUs.
        parallel: trials at a time; None = as many as there is room for.

    Raises:
        UserError: the cluster does not answer, or has no room for one trial.
    """

    def __init__(self, address: str, cpus: int, gpus: float | None, parallel: int | None) -> None:
        self.is_cluster = bool(address)
        options: dict[str, Any] = {"log_to_driver": False, "configure_logging": False, "logging_level": "ERROR"}
        options["address"] = address or "local"  # not the cluster that RAY_ADDRESS may name
        if not address:
            cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
            options |= {
                "num_cpus": max(cores, cpus * (parallel or 1)),
                "include_dashboard": False,
                "object_store_memory": 80 * 2**20,
            }
        try:
            ray.init(**options)
        except Exception as error:  # whatever Ray raises; its text has names of machines
            raise UserError(
                f"Ray cannot be started or reached ({type(error).__name__}). With --address: is the cluster up (`ray status`), "
                "with the same versions of Python and Ray, and is RAY_AUTH_TOKEN set as there?"
            ) from error
        self.cpus, self._parallel = cpus, parallel
        self.gpus = gpus if gpus is not None else float(bool(ray.cluster_resources().get("GPU")))
        if not self.room():
            have = {key: ray.cluster_resources().get(key, 0) for key in ("CPU", "GPU")}
            raise UserError(
                f"no node has {cpus} cores and {self.gpus:g} GPUs for a trial: all together have {have['CPU']:g} and "
                f"{have['GPU']:g}. Lower --cpus-per-trial or --gpus-per-trial"
            )
        ray.cloudpickle.register_pickle_by_value(node)
        self._run = ray.remote(node.run)

    def room(self) -> int:
        """How many trials may run at a time, on the nodes that there are now."""
        rooms = 0
        for have in (one["Resources"] for one in ray.nodes() if one["Alive"]):
            by_gpu = [int(have.get("GPU", 0) / self.gpus)] if self.gpus else []
            rooms += min([int(have.get("CPU", 0) / self.cpus), *by_gpu])
        return rooms if self._parallel is None else min(rooms, self._parallel)

    def place(self, spec: Mapping[str, Any]) -> Any:
        """Let a node run a trial; a node that dies is not the trial's fault: it is placed again."""
        return self._run.options(num_cpus=self.cpus, num_gpus=self.gpus, max_retries=-1).remote(dict(spec))

    def wait(self, running: Sequence[Any], seconds: float) -> list[tuple[Any, dict[str, Any]]]:
        """The trials that have ended, each with its outcome."""
        done, _ = ray.wait(list(running), num_returns=len(running), timeout=seconds)
        outcomes = []
        for one in done:
            try:
                outcomes.append((one, dict(ray.get(one))))
            except ray.exceptions.TaskCancelledError:
                outcomes.append((one, {"pruned": True}))
            except ray.exceptions.RayTaskError as error:
                outcomes.append((one, {"error": f"on its node: {error.cause!r}"}))
            except ray.exceptions.RayError as error:
                outcomes.append((one, {"error": f"on its node: Ray's {type(error).__name__}"}))
        return outcomes

    def stop(self, trial: Any) -> None:
        """Stop a trial and remove its clone."""
        ray.cancel(trial)

    def close(self) -> None:
        """Leave the cluster, or stop Ray; trials that still run save themselves and end."""
        ray.shutdown()


def spec(placing: Placing, metric: str) -> dict[str, Any]:
    """What a node is told of every trial: where the code is, and where results go.

    On this machine a clone lies where DVC would put a temporary copy. It has this checkout's cache and runs, and changes that
    are not committed; the experiment is pushed into this repository. On a cluster all goes through the remotes.
    """
    root = session.project_root()
    code = Provenance.gather()
    author = {}
    for key in ("user.name", "user.email"):
        with suppress(GitError):
            author[key] = git("config", key, cwd=root)
    told: dict[str, Any] = {
        "commit": code.commit,
        "prefix": git("rev-parse", "--show-prefix", cwd=root),
        "author": author,
        "metric": metric,
        "environment": {key: value for key, value in os.environ.items() if key.startswith(TRACKING)},
    }
    top = Path(elsewhere.dvc(root, "root").splitlines()[-1])
    path = (root / top).resolve() / ".dvc" / "config.local"  # this checkout's own configuration: not in git, may hold keys
    config = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    name = os.path.relpath(path, root)
    if placing.is_cluster:
        told |= {"remote": git("remote", "get-url", "origin", cwd=root), "clone": [], "patch": "", "place": "", "log": ""}
        return told | {"files": {name: "\n".join([*config, ""])}, "push": []}
    shared = ConfigObj(config)
    shared.setdefault("cache", {})["dir"] = str((root / elsewhere.dvc(root, "cache", "dir")).resolve())
    return told | {
        "remote": git("rev-parse", "--show-toplevel", cwd=root),
        "clone": ["--shared"],
        "patch": code.patch,
        "place": str(session.dvc_tmp() / "search"),
        "environment": {**told["environment"], session.HOME: str((root / top).resolve())},
        "files": {name: "\n".join([*shared.write(), ""]), "params.yaml": (root / "params.yaml").read_text(encoding="utf-8")},
        "push": ["--no-cache"],
    }
