"""Unrecorded: DVC experiments without an MLflow run, because every stage came from the cache and none could log it.

A sweep that includes the current value has one. It gets a run of its own name all the same: a copy of the earlier run with the
same params and outputs.
"""

from __future__ import annotations

import tempfile
from typing import Any

from stages.common import session
from stages.common.errors import UserError
from stages.common.params import read_yaml
from stages.tracking import provenance, store
from stages.tracking.git import git
from stages.tracking.run import COMPLETE, OUTPUTS, Run, param_text

OF_A_STAGE_THAT_RAN = ("system/", "seconds_", "tokens_per_second")  # metrics
OWN_TAGS = ("mlflow.runName", "mlflow.parentRunId", "mlflow.log-model", "pipeline.session", "pipeline.resumed", COMPLETE)


def record() -> list[str]:
    """Make the runs that are missing, and return their names."""
    try:
        listed = git("for-each-ref", "--format=%(objectname) %(refname:lstrip=4)", "refs/exps", cwd=session.project_root())
    except UserError:
        return []
    experiments = {name: commit for commit, _, name in (line.partition(" ") for line in listed.splitlines()) if name}
    if not experiments:
        return []
    client, experiment_id = store.connect()
    made = []
    with store.lock():  # two that look at the same moment must not make two
        known = client.search_runs([experiment_id], run_view_type=3, max_results=50_000)  # deleted ones too: they stay deleted
        for name in experiments.keys() - {run.info.run_name for run in known}:
            done = [run for run in known if run.info.lifecycle_stage == "active" and run.data.tags.get(COMPLETE) == "yes"]
            if run := _same(done, experiments[name]):
                _copy(client, run, name)
                made.append(name)
    return sorted(made)


def _same(runs: list[Any], commit: str) -> Any:
    """The run with the params and the outputs of a commit; None if there is none."""
    try:
        params, lock = (git("show", f"{commit}:./{name}", cwd=session.project_root()) for name in ("params.yaml", "dvc.lock"))
        texts, outputs = {key: param_text(value) for key, value in read_yaml(params).items()}, provenance.checksum(lock)
    except (UserError, AttributeError):
        return None
    return next((run for run in runs if run.data.params == texts and run.data.tags.get(OUTPUTS) == outputs), None)


def _copy(client: Any, run: Any, name: str) -> None:
    """A complete run of this name with all that the other one has, but for what was measured while its stages ran."""
    source, tags = run.info.run_id, run.data.tags
    kept = {key: "cached" if key.startswith("stage.") else value for key, value in tags.items() if key not in OWN_TAGS}
    made = client.create_run(run.info.experiment_id, run_name=name, tags={"trained_by": source} | kept).info.run_id
    copy = Run(client, run.info.experiment_id, made)
    copy.params(run.data.params)
    for key in run.data.metrics:
        if not key.startswith(OF_A_STAGE_THAT_RAN):
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
