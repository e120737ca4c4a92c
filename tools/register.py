"""Register a run's model in MLflow's registry: `mlflow.transformers.load_model("models:/gpt2-from-scratch/1")` loads it.

python -m tools.register RUN      (make register RUN=<MLflow run id or name>)
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

from stages.common import command, errors
from stages.tracking import store
from stages.tracking.run import MODEL_MD5
from tools.recorded_run import Recorded, fetch_output

MODEL = "data/train/model"


def main(args: argparse.Namespace) -> None:
    """Get the run's model from DVC's cache and log it with the run, as a version of the registered model."""
    os.environ["HF_HUB_OFFLINE"] = "1"  # transformers would ask the Hub for a model card and a licence, with retries
    recorded = Recorded(args.run)
    with tempfile.TemporaryDirectory(prefix="register-") as name:
        version = store.as_user_error(lambda: register(recorded, fetch(recorded, Path(name))))
    print(f"registered: models:/{store.EXPERIMENT}/{version}, from run {recorded.id}")
    print(f'use it: mlflow.transformers.load_model("models:/{store.EXPERIMENT}/{version}")("Once upon a time")')


def fetch(recorded: Recorded, folder: Path) -> Path:
    """The run's model folder, from DVC's cache.

    Raises:
        UserError: the cache does not have it.
    """
    project = recorded.checkout(folder)
    try:
        fetch_output(project, Path(MODEL))
    except errors.UserError as error:
        raise errors.UserError(
            f"DVC's cache does not have the model of run {recorded.id} (md5 {recorded.tags.get(MODEL_MD5)}). "
            f"Fetch it (dvc fetch --all-commits), or run it again: {recorded.tags.get('command', 'dvc repro')}"
        ) from error
    return project / MODEL


def register(recorded: Recorded, folder: Path) -> str:
    """Log the folder as the run's model and return its version in the registry."""
    import mlflow.transformers
    from transformers import pipeline

    mlflow.set_tracking_uri(store.store_uri())
    model = recorded.client.create_logged_model(recorded.experiment_id, "gpt2", source_run_id=recorded.id)
    logged = mlflow.transformers.log_model(
        pipeline("text-generation", model=str(folder)),
        name="gpt2",
        model_id=model.model_id,
        registered_model_name=store.EXPERIMENT,
        pip_requirements=["mlflow", "torch", "transformers"],
        metadata={MODEL_MD5: recorded.tags.get(MODEL_MD5)},
    )
    return str(logged.registered_model_version)


if __name__ == "__main__":
    command.run(main, __doc__, lambda parser: parser.add_argument("run", help="the MLflow run's id or name"))
