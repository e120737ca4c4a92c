"""Run: the one MLflow run of an experiment, found again or made, and what is logged in it."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

from stages.common import journal, session
from stages.tracking import liveness, provenance, store
from stages.tracking.provenance import Provenance

BATCH = 500  # metrics per request; the server takes 1,000 at most
SAMPLE_EVERY = 5.0  # seconds between two measurements of CPU, memory and GPU
FLUSH_EVERY = 5.0  # seconds between two writes of the curve while training

PARAM_LENGTH, TAG_LENGTH = 6000, 5000  # characters that MLflow keeps of a param or tag
CUT = " ... (cut: MLflow keeps no more; the whole is in params.yaml)"

SESSION, FINGERPRINT, COMPLETE = "pipeline.session", "pipeline.fingerprint", "pipeline.complete"
CHECKOUT_TAG = "pipeline.checkout"  # the folder that the run began in
MODEL_MD5, OUTPUTS = "md5.model", "md5.outputs"


class Run:
    """Our MLflow run. Every method raises what MLflow raises when the store fails."""

    def __init__(self, client: Any, experiment_id: str, run_id: str) -> None:
        self.client = client
        self.experiment_id = experiment_id
        self.id = run_id
        self._waiting: list[tuple[str, float, int, int]] = []  # (metric, value, time in ms, step)
        self._flushed = float("-inf")  # the first point is shown at once
        self._logged = {
            key: {point.step for point in client.get_metric_history(run_id, key)}
            for key in client.get_run(run_id).data.metrics
            if not key.startswith("system/")
        }

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Log metrics of a step. What an earlier attempt logged already is not logged twice: MLflow would keep both."""
        now = int(time.time() * 1000)
        for key, value in metrics.items():
            steps = self._logged.setdefault(key, set())
            if step not in steps:
                steps.add(step)
                self._waiting.append((key, float(value), now, step))
        if len(self._waiting) >= BATCH or time.monotonic() - self._flushed > FLUSH_EVERY:
            self.flush()

    def flush(self) -> None:
        """Send the metrics that are still waiting."""
        from mlflow.entities import Metric

        while self._waiting:
            batch, self._waiting = self._waiting[:BATCH], self._waiting[BATCH:]
            self.client.log_batch(self.id, metrics=[Metric(*point) for point in batch])
        self._flushed = time.monotonic()

    def tag(self, tags: Mapping[str, str]) -> None:
        """Set tags; a tag that is set already gets the new value."""
        from mlflow.entities import RunTag

        self.client.log_batch(self.id, tags=[RunTag(key, shorten(value, TAG_LENGTH)) for key, value in tags.items() if value])

    def params(self, params: Mapping[str, Any]) -> None:
        """Log the params that are not logged yet (MLflow's never change)."""
        from mlflow.entities import Param

        known = self.client.get_run(self.id).data.params
        new = [Param(key, param_text(value)) for key, value in params.items() if key not in known]
        self.client.log_batch(self.id, params=new)

    def samples(self, step: int, texts: Sequence[str]) -> None:
        """Add sample texts of a training step: to a table, and as a text of their own."""
        name = f"samples/step-{step:07d}.md"
        if self._has(name):
            return
        self.client.log_table(self.id, {"step": [step] * len(texts), "sample": list(texts)}, "samples/while_training.json")
        self.client.log_text(self.id, "\n\n---\n\n".join(texts) + "\n", name)

    def file(self, path: Path, folder: str = "") -> None:
        """Keep a copy of a file with the run."""
        self.client.log_artifact(self.id, str(path), folder or None)

    def code(self, code: Provenance) -> None:
        """Log what the run was made from: params.yaml, the code's commit, and a patch with what differs from the commit."""
        self.tag(code.tags())
        if code.patch:
            with tempfile.TemporaryDirectory(prefix="patch-") as folder:
                path = Path(folder, "code.patch")
                path.write_bytes(code.patch.encode("utf-8", "surrogateescape"))  # the code's own bytes, UTF-8 or not
                self.file(path)
        self.file(Path("params.yaml"))

    def table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Log rows as a table that MLflow shows and compares between runs."""
        if rows and not self._has(name):  # log_table would add them to those of an attempt that failed later on
            self.client.log_table(self.id, {key: [row.get(key) for row in rows] for key in rows[0]}, name)

    def dataset(self, about: Mapping[str, Any]) -> None:
        """Log the data set as the run's input, where the runs table shows it, with a checksum of its training stories."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        origin = {key: value for key, value in about.items() if key not in ("splits", "files")}
        if names := about.get("files"):  # MLflow takes 65,535 characters; their list is in data/download/about.json
            origin |= {"files": len(names), "sha256": hashlib.sha256(json.dumps(names).encode()).hexdigest()}
        source = json.dumps({"uri": about["dataset"]} | origin)  # mlflow.data.get_source needs a uri
        name, digest = Path(str(about["dataset"])).name, about["splits"]["train"]["sha256"][:36]  # MLflow takes 36 characters
        data = Dataset(name, digest, "local", source, profile=json.dumps(about["splits"]))
        self.client.log_inputs(self.id, [DatasetInput(data, [InputTag("mlflow.data.context", "training")])])

    def stages(self, ran: Mapping[str, Mapping[str, Any]]) -> None:
        """Log which stages ran, and how long."""
        self.tag({f"stage.{stage}": "ran" for stage in ran})
        for stage, line in ran.items():
            self.log(0, {f"machine/seconds_{stage}": line["seconds"]})
        self.flush()
        self._flushed = float("-inf")  # the first point of the curve is shown at once, too

    def cached(self, stages: Sequence[str], model: str, facts: Mapping[str, str]) -> None:
        """Tag the stages that did not run, and the machine that trained, if the live run could not.

        The machine is known from a run of the same model (`model` is its md5), if possible the one that trained it, or else
        from the journal (`facts`).
        """
        tags = self.client.get_run(self.id).data.tags
        self.tag({f"stage.{stage}": "cached" for stage in stages if f"stage.{stage}" not in tags})
        if any(key.startswith("machine.") for key in tags):
            return
        same_model = f"tags.`{MODEL_MD5}` = '{model}'"
        runs = store.search_runs(self.client, self.experiment_id, same_model) if "stage.train" not in tags else []
        for run in sorted(runs, key=lambda run: run.data.tags.get("stage.train") != "ran"):
            if known := {key: value for key, value in run.data.tags.items() if key.startswith("machine.")}:
                facts = known
                self.tag({"trained_by": run.data.tags.get("trained_by", run.info.run_id)})
                break
        self.tag(facts)

    def watch(self) -> Callable[[], None]:
        """Log CPU, memory, disk, network and GPU every few seconds, until the function returned is called."""
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        monitor = SystemMetricsMonitor(  # type: ignore[no-untyped-call]
            self.id, sampling_interval=SAMPLE_EVERY, resume_logging=True, tracking_uri=store.store_uri()
        )
        monitor.start()  # type: ignore[no-untyped-call]
        return cast("Callable[[], None]", monitor.finish)

    def finish(self, status: str) -> None:
        """Send what is waiting and close the run: FINISHED, FAILED or KILLED."""
        self.flush()
        self.client.set_terminated(self.id, status)

    def _has(self, name: str) -> bool:
        folder = name.rpartition("/")[0]
        return any(item.path == name for item in self.client.list_artifacts(self.id, folder or None))


def param_text(value: Any) -> str:
    """A param as params.yaml writes it: true, null; a text that is too long for MLflow is cut, and says so."""
    text = "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return shorten(text, PARAM_LENGTH)


def shorten(text: str, length: int) -> str:
    """The text, or as much of it as leaves room to say that it is cut."""
    return text if len(text) <= length else text[: length - len(CUT)] + CUT


def same_params(recorded: Mapping[str, str], params: Mapping[str, Any]) -> bool:
    """Whether a run's params, which are texts, have these values: 0 is 0.0, and a long text is cut in both."""
    return recorded.keys() == params.keys() and all(_is_same(recorded[key], value) for key, value in params.items())


def _is_same(text: str, value: Any) -> bool:
    if isinstance(value, int | float) and not isinstance(value, bool):
        with suppress(ValueError):
            return float(text) == value
    return text == param_text(value)


def open_run(params: Mapping[str, Any], now: str, name: str, settled: Collection[str] | None = None) -> Run:
    """The MLflow run of this experiment.

    The one that this invocation of DVC has begun; else one that an interrupted attempt at the same experiment left, to resume;
    else a new one. Runs that died at other experiments are marked as killed.
    `settled` are the params to log; None = all of them.
    """
    client, experiment_id = store.connect()
    tags = {
        SESSION: now,
        FINGERPRINT: provenance.fingerprint(params),
        CHECKOUT_TAG: str(session.project_root()),
        COMPLETE: "no",
    }
    with store.lock():  # search and create must be atomic
        liveness.acquire(now)
        found = _left_open(client, experiment_id, tags)
        before = found.data.tags[SESSION] if found else now
        if found is None:
            found = client.create_run(experiment_id, run_name=name, tags=tags)
        elif before != now:
            tags["pipeline.resumed"] = str(int(found.data.tags.get("pipeline.resumed", 0)) + 1)
            for key, value in tags.items():
                client.set_tag(found.info.run_id, key, value)
            of_experiment = found.data.tags.get("mlflow.source.name", "").startswith("dvc exp run -n")
            keeps_name = of_experiment and "DVC_EXP_NAME" not in os.environ  # `dvc repro` completes what an experiment began
            client.update_run(found.info.run_id, "RUNNING", None if keeps_name else name)
            liveness.release(before)
        else:  # a param that training does not read may have been edited since
            client.set_tag(found.info.run_id, FINGERPRINT, tags[FINGERPRINT])
    ours = Run(client, experiment_id, found.info.run_id)
    ours.stages(journal.finished_stages(before))  # those of the attempt that this one resumes
    ours.params(params if settled is None else {key: params[key] for key in settled})
    return ours


def close_incomplete(name: str) -> None:
    """Close the run of a session that has ended after training and before `track`, as `dvc exp run train` does: FINISHED, or
    FAILED if a stage failed, with the stages that ran. It stays tagged as not complete, and the next `track` completes it."""
    if (database := store.database()) and not database.exists():
        return
    client, experiment_id = store.connect()
    with store.lock():  # a new session takes the run over, or finds it closed
        for run in store.search_runs(client, experiment_id, f"tags.`{SESSION}` = '{name}'"):
            tags = run.data.tags
            if (tags.get(COMPLETE), run.info.status, tags.get("stage.train")) == ("no", "RUNNING", "ran"):
                ours = Run(client, experiment_id, run.info.run_id)
                ours.stages(journal.finished_stages(name))
                ours.finish("FAILED" if journal.has_failed(name) else "FINISHED")


def _left_open(client: Any, experiment_id: str, ours: Mapping[str, str]) -> Any:
    """The run, not complete, that is ours: of this session, or of a dead one in this checkout with our fingerprint."""
    found = None
    for run in store.search_runs(client, experiment_id, f"tags.`{COMPLETE}` = 'no'"):
        tags = run.data.tags
        if tags[SESSION] == ours[SESSION]:
            return run
        alone = store.is_of_this_checkout()  # in a store of others too, a session's lock may have been copied with its checkout
        if (alone or tags.get(CHECKOUT_TAG) == ours[CHECKOUT_TAG]) and liveness.is_dead(tags[SESSION], alone):
            run = client.get_run(run.info.run_id)  # as its session left it: it may have been completed since it was found
            if run.data.tags[COMPLETE] == "yes":
                continue
            if tags[FINGERPRINT] == ours[FINGERPRINT] and found is None:
                found = run
            elif run.info.status == "RUNNING":
                client.set_terminated(run.info.run_id, "KILLED")
    return found


def link(run: Run) -> str:
    """The run's page in the browser; for a store without a server, where `make ui` will show it."""
    return f"{store.site(store.store_uri())}/#/experiments/{run.experiment_id}/runs/{run.id}?workflowType=machine_learning"
