"""Unrecorded: DVC experiments without an MLflow run, because every stage came from the cache and none could log it.

For example, a sweep point that equals the current value. Each gets a run of its own name: a copy of the earlier run with the
same params and outputs. A run whose experiment was renamed (`dvc exp rename`) gets the new name.
"""

from __future__ import annotations

import tempfile
from typing import Any

from stages.common import session
from stages.common.errors import UserError
from stages.common.params import read_yaml
from stages.tracking import provenance, store
from stages.tracking.git import git
from stages.tracking.run import COMPLETE, OUTPUTS, Run, same_params

OF_A_STAGE_THAT_RAN = ("system/", "machine/")  # metrics
MOST_SECONDS = 120  # between the end of `track` and DVC's commit of the experiment
OWN_TAGS = ("mlflow.runName", "mlflow.parentRunId", "mlflow.log-model", "pipeline.session", "pipeline.resumed", COMPLETE)


def record() -> list[str]:
    """Make the runs that are missing, rename those of renamed experiments, and return the names of both."""
    form = "%(objectname) %(committerdate:unix) %(refname:lstrip=4)"
    try:
        listed = git("for-each-ref", f"--format={form}", "refs/exps", cwd=session.project_root())
    except UserError:
        return []
    words = [line.split(" ", 2) for line in listed.splitlines()]
    experiments = {name: (commit, int(date)) for commit, date, name in words if name and date}
    if not experiments:
        return []
    client, experiment_id = store.connect()
    made = []
    with store.lock():  # two that look at the same moment must not make two
        known = store.search_runs(client, experiment_id, run_view_type=3)  # deleted ones too: they stay deleted
        for name in experiments.keys() - {run.info.run_name for run in known}:
            done = [run for run in known if run.info.lifecycle_stage == "active" and run.data.tags.get(COMPLETE) == "yes"]
            commit, date = experiments[name]
            if same := _same(done, commit):
                renamed = [run for run in same if run.info.run_name not in experiments and _ended_with(run, date)]
                if renamed:
                    _rename(client, renamed[0], name)
                else:
                    _copy(client, same[0], name)
                made.append(name)
    return sorted(made)


def _ended_with(run: Any, date: int) -> bool:
    """Whether it is an experiment's run, and DVC committed that experiment when it had ended.

    DVC keeps the commit when it renames an experiment. One with the same results that came from the cache has a later commit.
    """
    by_experiment = run.data.tags.get("mlflow.source.name") == _source(run.info.run_name)
    return by_experiment and 0 <= date + 1 - (run.info.end_time or 0) / 1000 < MOST_SECONDS


def _source(name: str) -> str:
    return f"dvc exp run -n {name}"


def _rename(client: Any, run: Any, name: str) -> None:
    client.update_run(run.info.run_id, name=name)
    client.set_tag(run.info.run_id, "mlflow.source.name", _source(name))


def _same(runs: list[Any], commit: str) -> list[Any]:
    """The runs with the params and the outputs of a commit."""
    try:
        params, lock = (git("show", f"{commit}:./{name}", cwd=session.project_root()) for name in ("params.yaml", "dvc.lock"))
        values, outputs = dict(read_yaml(params)), provenance.checksum(lock)
    except (UserError, TypeError, ValueError):
        return []
    return [run for run in runs if run.data.tags.get(OUTPUTS) == outputs and same_params(run.data.params, values)]


def _copy(client: Any, run: Any, name: str) -> None:
    """A complete run of this name with all that the other one has, except what was measured while its stages ran."""
    source, tags = run.info.run_id, run.data.tags
    own = {key for key in tags if key in OWN_TAGS or key.startswith("search.")}  # a search's trial, which the copy is not
    kept = {key: "cached" if key.startswith("stage.") else value for key, value in tags.items() if key not in own}
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
    copy.tag({"mlflow.source.name": _source(name)})
    copy.finish("FINISHED")
    copy.tag({COMPLETE: "yes"})
