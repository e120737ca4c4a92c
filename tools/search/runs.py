"""Runs: the search in MLflow. Its trials' runs get tags by which one filter shows them; a run of its own has the result."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stages.common.errors import UserError
from stages.tracking import store
from stages.tracking.results import by_step
from stages.tracking.run import COMPLETE, param_text

NAME, TRIAL, PARENT, PRUNED = "search.name", "search.trial", "search.parent", "search.pruned"
(VAL_LOSS,) = by_step({"val_loss": 0.0})


class Runs:
    """The runs of one search. A store that fails costs the search a warning: its study has all that it needs.

    Raises:
        UserError: the store does not answer when the search begins.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
        self.client, self.experiment_id = store.as_user_error(store.connect)
        self._ids: dict[str, str] = {}  # of the trials' runs, by the name of the experiment
        self._parent = ""
        self._warned = False

    def exist(self) -> bool:
        """Whether there are runs of a search of this name."""
        found = self.client.search_runs([self.experiment_id], f"tags.`{NAME}` = '{self.name}'", max_results=1)
        return bool(found)

    def begin(self, settings: Mapping[str, Any]) -> None:
        """Make the search's own run, or open it again."""
        with self._failure_is_a_warning():
            mine = f"tags.`{NAME}` = '{self.name}' AND tags.`{PARENT}` = 'yes'"
            if found := self.client.search_runs([self.experiment_id], mine, max_results=1):
                self._parent = found[0].info.run_id
                self.client.update_run(self._parent, "RUNNING")
                return
            tags = {NAME: self.name, PARENT: "yes", "mlflow.source.name": f"python -m tools.search -n {self.name}"}
            self._parent = self.client.create_run(self.experiment_id, run_name=self.name, tags=tags).info.run_id
            for key, value in settings.items():
                text = param_text(" ".join(value) if key == "words" else value)
                self.client.log_param(self._parent, f"search.{key}", text)

    def watch(self, experiment: str, number: int) -> None:
        """Tag a trial's run as soon as it is there; a trial whose node has died gets another one, and the first is deleted."""
        with self._failure_is_a_warning():
            wanted, newest = f"attributes.run_name = '{experiment}'", ["attributes.start_time DESC"]
            found = self.client.search_runs([self.experiment_id], wanted, order_by=newest)
            if not found or found[0].info.run_id == self._ids.get(experiment):
                return
            tags = {NAME: self.name, TRIAL: str(number), "mlflow.parentRunId": self._parent}
            for key, value in tags.items():
                self.client.set_tag(found[0].info.run_id, key, value)
            self._ids[experiment] = found[0].info.run_id
            for run in found[1:]:
                if (run.data.tags.get(NAME), run.data.tags.get(COMPLETE)) == (self.name, "no"):
                    self.client.delete_run(run.info.run_id)

    def losses(self, experiment: str) -> list[float]:
        """The validation losses that a trial has logged."""
        with self._failure_is_a_warning():
            if run := self._ids.get(experiment):
                points = self.client.get_metric_history(run, VAL_LOSS)
                return [point.value for point in sorted(points, key=lambda point: point.step)]
        return []

    def complete(self, experiment: str, number: int) -> dict[str, float]:
        """The metrics of a trial's run, if that is complete."""
        self.watch(experiment, number)
        with self._failure_is_a_warning():
            if run := self._ids.get(experiment):
                data = self.client.get_run(run).data
                return dict(data.metrics) if data.tags.get(COMPLETE) == "yes" else {}
        return {}

    def close(self, experiment: str, status: str, tags: Mapping[str, str]) -> None:
        """Close the run of a trial that did not complete it."""
        with self._failure_is_a_warning():
            if (run := self._ids.get(experiment)) and self.client.get_run(run).data.tags.get(COMPLETE) != "yes":
                for key, value in tags.items():
                    self.client.set_tag(run, key, value)
                self.client.set_terminated(run, status)

    def finish(self, status: str, page: Path | None, note: str) -> None:
        """Close the search's run, with its page and its result in words."""
        with self._failure_is_a_warning():
            if page is not None:
                self.client.log_artifact(self._parent, str(page))
            self.client.set_tag(self._parent, "mlflow.note.content", note)
            self.client.set_terminated(self._parent, status)

    @contextmanager
    def _failure_is_a_warning(self) -> Iterator[None]:
        """Within the block MLflow may fail: the first time that is said."""
        try:
            yield
        except Exception as error:  # whatever MLflow or its store raises
            if not self._warned:
                self._warned = True
                reason = str(error) if isinstance(error, UserError) else store.explain(error)
                print(f"warning: MLflow: {reason} The search continues.", file=sys.stderr)
