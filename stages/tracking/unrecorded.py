"""Unrecorded: experiments that DVC lists and MLflow lacks, because nothing in them was new and no stage ran.

A sweep that includes the current value has one: its results are an earlier run's, and DVC starts nothing that could log it. It
gets a run of its own name all the same, a copy of that earlier run.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from stages.common import session
from stages.common.errors import UserError
from stages.common.params import read_yaml
from stages.tracking import provenance, store
from stages.tracking.run import COMPLETE, Run, param_text

WATCHED = re.compile(r"system/|seconds_|tokens_per_second")  # metrics of a stage that ran
OWN_TAGS = re.compile(r"mlflow\.(runName|parentRunId|log-model)|pipeline\.(session|resumed|complete)|reproduce$")


def record() -> list[str]:
    """Make the runs that are missing, and return their names."""
    experiments = dict(_experiments())
    if not experiments:
        return []
    client, experiment_id = store.connect()
    with store.lock():  # two that look at the same moment must not make two
        known = client.search_runs(
            [experiment_id], run_view_type=3, max_results=50_000
        )  # with deleted ones: what a user deleted stays deleted
        names = {run.info.run_name for run in known}
        done = [run for run in known if run.info.lifecycle_stage == "active" and run.data.tags.get(COMPLETE) == "yes"]
        found = {name: _same(client, done, commit) for name, commit in experiments.items() if name not in names}
        for name, run in found.items():
            if run is not None:
                _copy(client, run, name)
    return [name for name, run in found.items() if run is not None]


def _experiments() -> Iterator[tuple[str, str]]:
    """DVC's experiments: name and commit. They are git's references."""
    for line in _git("for-each-ref", "--format=%(objectname) %(refname)", "refs/exps").splitlines():
        if found := re.fullmatch(r"(\w+) refs/exps/[0-9a-f]{2}/[0-9a-f]{38}/(.+)", line):
            yield found[2], found[1]


def _same(client: Any, runs: list[Any], commit: str) -> Any:
    """The run with the params and the outputs of a commit; None if there is none."""
    try:
        params: Mapping[str, Any] = read_yaml(_git("show", f"{commit}:./params.yaml"))
        texts = {key: param_text(value) for key, value in params.items()}
    except (UserError, AttributeError):
        return None
    with tempfile.TemporaryDirectory(prefix="unrecorded-") as folder:
        lock = Path(folder, "theirs")
        lock.write_text(_git("show", f"{commit}:./dvc.lock"), encoding="utf-8")
        outputs = provenance.outputs(lock)
        for run in runs if outputs else []:
            if run.data.params == texts and _outputs(client, run, Path(folder)) == outputs:
                return run
    return None


def _outputs(client: Any, run: Any, folder: Path) -> Mapping[str, str]:
    """What the run's dvc.lock says; nothing if it has none."""
    if not any(item.path == "dvc.lock" for item in client.list_artifacts(run.info.run_id)):
        return {}
    return provenance.outputs(Path(client.download_artifacts(run.info.run_id, "dvc.lock", str(folder))))


def _copy(client: Any, run: Any, name: str) -> None:
    """A complete run of this name with all that the other one has, but for what was measured while its stages ran."""
    source, tags = run.info.run_id, run.data.tags
    kept = {key: value for key, value in tags.items() if not OWN_TAGS.match(key)}
    kept |= {key: "cached" for key in tags if key.startswith("stage.")}
    made = client.create_run(run.info.experiment_id, run_name=name, tags={"trained_by": source} | kept).info.run_id
    copy = Run(client, run.info.experiment_id, made)
    copy.params(run.data.params)
    for key in run.data.metrics:
        if not WATCHED.match(key):
            for point in client.get_metric_history(source, key):
                copy.log(point.step, {key: point.value})
    client.log_inputs(made, run.inputs.dataset_inputs)
    with tempfile.TemporaryDirectory(prefix="unrecorded-") as folder:
        client.log_artifacts(made, client.download_artifacts(source, "", folder))
    note = tags.get("mlflow.note.content", "").replace(source, made)
    copy.tag({"reproduce": f"make reproduce RUN={made}", "mlflow.note.content": note})
    copy.tag({"mlflow.source.name": f"dvc exp run -n {name}"})
    copy.finish("FINISHED")
    copy.tag({COMPLETE: "yes"})


def _git(*words: str) -> str:
    """What git says in the main checkout; empty if it fails or is not there."""
    with suppress(FileNotFoundError):
        done = subprocess.run(
            ["git", *words], cwd=session.root(), capture_output=True, text=True, errors="replace", check=False
        )
        return done.stdout if done.returncode == 0 else ""
    return ""
