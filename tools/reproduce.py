"""Run a recorded experiment again from nothing and compare every output with what was recorded.

python -m tools.reproduce RUN      (make reproduce RUN=<MLflow run id or name>)

Exit code 0: every output has the recorded md5. On a machine that differs in what decides the bits (CPU, threads, torch...)
the bytes may differ: then the metrics must be in the recorded run's intervals.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from stages.common import command, errors
from stages.tracking import provenance, results, store
from tools.recorded_run import Recorded, clean_environment

SPEED_ONLY = {"machine.host", "machine.platform", "machine.memory_gib", "machine.cores", "machine.gpus"}  # these change no bit


@dataclass(frozen=True)
class Rerun:
    """What the experiment gave this time: the outputs' md5s by path, its MLflow run's tags, its metrics."""

    outputs: Mapping[str, str]
    tags: Mapping[str, str]
    metrics: Mapping[str, float]


def main(args: argparse.Namespace) -> None:
    """Rebuild, run, compare."""
    recorded = Recorded(args.run)
    with tempfile.TemporaryDirectory(prefix="reproduce-") as name:
        folder = Path(name)
        clone = recorded.checkout(folder)
        before = provenance.outputs(clone / "dvc.lock")
        print(f"run {recorded.id}: {recorded.tags.get('command', '')}\nin {clone}", flush=True)
        now = run_again(clone, store.sqlite_uri(folder / "mlflow.db"))  # the run stays out of the real store
    same = show_outputs(before, now.outputs)
    if not same:
        same = show_machines(recorded.tags, now.tags) and show_metrics(recorded.metrics, now.metrics)
    sys.exit(0 if same else 1)


def run_again(clone: Path, uri: str) -> Rerun:
    """Run the whole pipeline of a checkout, with this MLflow store.

    Raises:
        UserError: the pipeline failed.
    """
    (clone / "dvc.lock").unlink()  # nothing to compare with: every stage runs
    dvc = [sys.executable, "-m", "dvc", "repro", "--force", "--no-run-cache"]
    if subprocess.run(dvc, cwd=clone, env=clean_environment(MLFLOW_TRACKING_URI=uri), check=False).returncode:
        raise errors.UserError("the pipeline failed; see above")
    return Rerun(provenance.outputs(clone / "dvc.lock"), tags_of_training(uri), results.metrics(clone / "data"))


def tags_of_training(uri: str) -> dict[str, str]:
    """The tags of the one run in the copy's store."""
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    found = [one.experiment_id for one in client.search_experiments()]
    return {key: value for run in client.search_runs(found) for key, value in run.data.tags.items()}


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


def show_machines(before: Mapping[str, str], after: Mapping[str, str]) -> bool:
    """Print the facts on the machine that may change the bits and do differ, and return whether there are any."""
    facts = [key for key in before if key.startswith("machine.") and key not in SPEED_ONLY]
    other = [key for key in facts if after.get(key, "") != before[key]]
    for key in other:
        print(f"  {key.removeprefix('machine.')}: {before[key]} -> {after.get(key, '(none)')}")
    print("so the bits may differ:" if other else "although the machine is the same in all that decides the bits")
    return bool(other)


def show_metrics(before: Mapping[str, float], after: Mapping[str, float]) -> bool:
    """Print the metrics that have an interval and return whether the new values are in the recorded intervals."""
    fits = bool(before)
    for key in (key.removesuffix("_low") for key in before if key.endswith("_low")):
        low, high, value = before[f"{key}_low"], before[f"{key}_high"], after.get(key, float("nan"))
        inside = low <= value <= high
        fits &= inside
        interval = f"{before[key]:.4f} (95 % interval {low:.4f} to {high:.4f})"
        print(f"{key}: {interval}, now {value:.4f}: {'fits' if inside else 'DOES NOT FIT'}")
    return fits


if __name__ == "__main__":
    command.run(main, __doc__, lambda parser: parser.add_argument("run", help="the MLflow run's id or name"))
