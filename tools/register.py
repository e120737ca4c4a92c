"""Register a run's model in MLflow's registry: `mlflow.transformers.load_model("models:/gpt2-from-scratch/1")` loads it.

python -m tools.register RUN      (make register RUN=<MLflow run id or name>)
"""

from __future__ import annotations

import argparse
import os
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

from stages.common import command, errors
from stages.tracking import store
from stages.tracking.run import MODEL_MD5
from tools.recorded_run import Recorded, fetch_output

MODEL = "data/train/model"
PACKAGES = ("mlflow", "torch", "transformers", "tokenizers", "safetensors", "numpy")  # what loads the model elsewhere
TAGS = ("mlflow.runName", "git.commit", "reproduce", MODEL_MD5)  # of the run, for its version in the registry


def main(args: argparse.Namespace) -> None:
    """Get the run's model from DVC's cache and log it with the run, as a version of the registered model."""
    os.environ.pop("MLFLOW_RUN_ID", None)  # of `mlflow run`, which may have started this: MLflow would log there
    os.environ["HF_HUB_OFFLINE"] = "1"  # transformers would ask the Hub for a model card and a license, with retries
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
    from huggingface_hub import ModelCard
    from mlflow.models import infer_signature
    from transformers import pipeline

    mlflow.set_tracking_uri(store.store_uri())
    writer = pipeline("text-generation", model=str(folder))
    context = writer.model.config.n_positions
    writer.model.name_or_path = f"{store.EXPERIMENT}, run {recorded.id}"  # else the temporary folder's path is recorded
    model = recorded.client.create_logged_model(recorded.experiment_id, "gpt2", source_run_id=recorded.id)
    logged = mlflow.transformers.log_model(
        writer,
        name="gpt2",
        model_id=model.model_id,
        registered_model_name=store.EXPERIMENT,
        signature=infer_signature("Once upon a time", "Once upon a time, there was", params(context)),
        model_card=ModelCard.load(folder / "README.md"),
        pip_requirements=[f"{package}=={version(package).partition('+')[0]}" for package in PACKAGES],
        metadata={MODEL_MD5: recorded.tags.get(MODEL_MD5)},
    )
    number = str(logged.registered_model_version)
    text = description(recorded, writer.model.num_parameters(), context)
    recorded.client.update_model_version(store.EXPERIMENT, number, text)
    for tag in TAGS:
        if tag in recorded.tags:
            recorded.client.set_model_version_tag(store.EXPERIMENT, number, tag.removeprefix("mlflow."), recorded.tags[tag])
    return number


def params(context: int) -> dict[str, Any]:
    """What a request to the served model may change, with the values that hold otherwise.

    Of a prompt that is too long its end is used (`handle_long_generation`), so that a text of any length is continued.
    """
    return {
        "max_new_tokens": max(1, context // 2),
        "do_sample": True,
        "temperature": 1.0,
        "top_k": 0,
        "top_p": 1.0,
        "return_full_text": True,
        "handle_long_generation": "hole",
    }


def description(recorded: Recorded, parameters: int, context: int) -> str:
    """What the registry shows of a version: which network it is, how good, and how to rerun it."""
    values = (recorded.metrics[f"evaluate/perplexity{end}"] for end in ("", "_low", "_high"))
    score = "perplexity {:.4g} ({:.4g} to {:.4g})".format(*values)
    return (
        f"GPT-2 trained on {recorded.params['dataset']}: {parameters:,} parameters, context {context:,} tokens, "
        f"validation {score}. Run it again: make reproduce RUN={recorded.id}"
    )


if __name__ == "__main__":
    command.run(main, __doc__, lambda parser: parser.add_argument("run", help="the MLflow run's id or name"))
