"""Run a recorded experiment again from nothing and compare every output with what was recorded.

python -m tools.reproduce RUN      (make reproduce RUN=<MLflow run id or name>)

Exit code 0: every output has the recorded md5. On a machine that differs in what decides the bits (CPU, threads, torch...)
the bytes may differ: then the metrics must be in the recorded run's intervals.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from stages.common import command
from stages.tracking import provenance, results
from tools import elsewhere
from tools.recorded_run import Recorded

SPEED_ONLY = {"machine.host", "machine.platform", "machine.memory_gib", "machine.cores", "machine.gpus"}  # these change no bit

ENVIRONMENT = "machine.environment"


@dataclass(frozen=True)
class Rerun:
    """What the experiment gave this time: the outputs' md5s by path, its MLflow run's tags, its metrics."""

    outputs: Mapping[str, str]
    tags: Mapping[str, str]
    metrics: Mapping[str, float]


def main(args: argparse.Namespace) -> None:
    """Rebuild, run, compare."""
    recorded = Recorded(args.run)
    with tempfile.TemporaryDirectory(prefix="reproduce-") as folder:
        project = recorded.checkout(Path(folder))
        before = provenance.outputs(project / "dvc.lock")
        print(f"run {recorded.id}: {recorded.tags.get('command', '')}", flush=True)
        now = run_again(project)
    same = elsewhere.show_outputs(before, now.outputs)
    if not same:
        same = show_machines(recorded.tags, now.tags) and show_metrics(recorded.metrics, now.metrics)
    sys.exit(0 if same else 1)


def run_again(project: Path) -> Rerun:
    """Run the whole pipeline of a checkout, whose run stays out of the real store.

    Raises:
        UserError: the pipeline failed.
    """
    from mlflow import MlflowClient

    elsewhere.run_from_nothing(project)
    client = MlflowClient(elsewhere.run_store(project))
    runs = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    tags = {key: value for run in runs for key, value in run.data.tags.items()}
    return Rerun(provenance.outputs(project / "dvc.lock"), tags, results.metrics(project / "data"))


def show_machines(before: Mapping[str, str], after: Mapping[str, str]) -> bool:
    """Print the facts on the machine that may change the bits and do differ, and return whether there are any."""
    recorded = {ENVIRONMENT: "", **before}  # an older run may lack a fact; this one is absent where nothing is set
    facts = [key for key in recorded if key.startswith("machine.") and key not in SPEED_ONLY]
    other = [key for key in facts if after.get(key, "") != recorded[key]]
    for key in other:
        print(f"  {key.removeprefix('machine.')}: {recorded[key] or '(none)'} -> {after.get(key) or '(none)'}")
    print("so the bits may differ:" if other else "although the machine is identical")
    return bool(other)


def show_metrics(before: Mapping[str, float], after: Mapping[str, float]) -> bool:
    """Print the metrics that have an interval and return whether the new values are in the recorded intervals."""
    fits = bool(before)
    for key in (key.removesuffix("_low") for key in before if key.endswith("_low")):
        low, high, value = before[f"{key}_low"], before[f"{key}_high"], after.get(key, float("nan"))
        inside = low <= value <= high
        fits &= inside
        interval = f"{before[key]:.4f} (95 % interval {low:.4f} to {high:.4f})"
        print(f"{key}: {interval}, now {value:.4f}: {'within the interval' if inside else 'OUTSIDE THE INTERVAL'}")
    return fits


if __name__ == "__main__":
    command.run(main, __doc__, lambda parser: parser.add_argument("run", help="the MLflow run's id or name"))
