"""Store: where the MLflow runs are kept, opened by one process at a time, and what its failures mean."""

from __future__ import annotations

import json
import logging
import os
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from filelock import FileLock

from stages.common import session
from stages.common.errors import UserError

EXPERIMENT = "gpt2-from-scratch"
LOCK_PATIENCE = 10.0  # seconds that another program may hold the store
VIEW = "comparison"  # a view of the runs table that MLflow's pages offer under this name, with these columns
COLUMNS = [f"params.`{key}`" for key in ("dataset", "max_samples", "n_embd", "learning_rate", "epochs", "temperature")] + [
    f"metrics.`{key}`" for key in ("perplexity", "floor_ratio", "final_val_loss")
]


def store_uri() -> str:
    """Where the runs are kept: MLFLOW_TRACKING_URI, else mlflow.db in the main checkout, where `mlflow ui` looks.

    A relative sqlite path is taken from the main checkout: an experiment in a temporary copy must not keep its runs there.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).is_absolute():
        uri = f"sqlite:///{(session.root() / uri.removeprefix('sqlite:///')).as_posix()}"
    return uri


def connect() -> tuple[Any, str]:
    """MLflow's client and the id of our experiment, which is made if need be.

    Raises:
        UserError: the store is a file that cannot be read or written.
    """
    mlflow, uri = _import_mlflow(), store_uri()
    with lock():
        _try_sqlite(uri)
        client = mlflow.MlflowClient(uri)
        return client, _experiment_id(client, uri)


def table(uri: str, experiment_id: str) -> str:
    """The page with the runs table."""
    return f"{site(uri)}/#/experiments/{experiment_id}/runs?workflowType=machine_learning&viewStateShareKey={VIEW}"


def site(uri: str) -> str:
    """The address of the store's pages, without the password that its URI may hold."""
    return _without_password(uri).rstrip("/") if uri.startswith("http") else "http://127.0.0.1:5000"


def explain(error: Exception) -> str:
    """What a failed store means, in one sentence or two."""
    if isinstance(error, UserError):
        return f"{error}."
    reason = _without_password(" ".join(str(error).split()))
    reason = reason if len(reason) <= 300 else f"{reason[:297]}..."
    return f"the store {_without_password(store_uri())} does not answer as it should ({type(error).__name__}: {reason})."


def strictly(action: Callable[[], Any]) -> Any:
    """Do the action; a store that fails is the user's to put right.

    Raises:
        UserError: MLflow or its store failed.
    """
    try:
        return action()
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"MLflow: {explain(error)} Nothing is lost: start the server, or unset MLFLOW_TRACKING_URI to use mlflow.db here; "
            "then `dvc repro` logs the run without training again"
        ) from error


def lock() -> FileLock:
    """Held by one process at a time: two that create one SQLite store at the same moment ruin it for good."""
    uri = store_uri()
    beside = (
        Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else session.root() / ".dvc" / "tmp" / "mlflow"
    )
    beside.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(f"{beside}.lock", timeout=60)


def _try_sqlite(uri: str) -> None:
    """Tell within seconds what is wrong with a store that is a file: MLflow tries again and again, for minutes."""
    path = Path(uri.removeprefix("sqlite:///"))
    if not uri.startswith("sqlite:///") or not path.exists():
        return
    reason, todo = "", ""
    if not all(os.access(one, os.W_OK) for one in (path, path.parent)):
        reason, todo = "it is read-only", "Make it and its folder writable for this user"
    try:
        with closing(sqlite3.connect(path, timeout=LOCK_PATIENCE, isolation_level=None)) as database:
            database.execute("BEGIN IMMEDIATE")  # as a write would begin
            database.execute("SELECT count(*) FROM sqlite_master")
            database.execute("ROLLBACK")
    except sqlite3.OperationalError as error:
        held = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
        reason, todo = str(error), "End the program that holds it" if held else "Make it a file that can be read and written"
    except sqlite3.DatabaseError as error:
        reason, todo = str(error), "Put back a copy, or move it away: a new one is made"
    if reason:
        raise UserError(
            f"the MLflow store {path} cannot be used: {reason}. {todo}. Nothing else is lost: `dvc repro` then logs the run "
            "without training again"
        )


def _import_mlflow() -> Any:
    """MLflow, quiet and patient within limits; imported late because that takes 1.5 seconds."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # by default a dead server costs four minutes a call
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    import mlflow

    logging.getLogger("mlflow").setLevel(logging.ERROR)  # mlflow sets its own at import
    return mlflow


def _experiment_id(client: Any, uri: str) -> str:
    """Our experiment's id, made if need be. A server knows where it keeps files; without one they go to mlruns/."""
    found = client.get_experiment_by_name(EXPERIMENT)
    if found is None:
        remote = uri.split(":", 1)[0] in ("http", "https", "databricks", "uc")
        place = None if remote else (session.root() / "mlruns").as_uri()
        view = json.dumps({"selectedColumns": COLUMNS, "orderByKey": "attributes.start_time", "orderByAsc": False})
        tags = {"mlflow.experimentKind": "custom_model_development", f"mlflow.sharedViewState.{VIEW}": view}
        return str(client.create_experiment(EXPERIMENT, place, tags))
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    return str(found.experiment_id)


def _without_password(text: str) -> str:
    """The text with `scheme://user:password@host` cut to `scheme://host`."""
    return re.sub(r"//[^/@\s]*@", "//", text)
