"""Store: where the MLflow runs are kept, opened by one process at a time, and what its failures mean."""

from __future__ import annotations

import json
import logging
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from sqlalchemy.engine import create_engine, make_url
from sqlalchemy.exc import ArgumentError

from stages.common import addresses, files, session
from stages.common.errors import UserError
from stages.tracking import places

EXPERIMENT = "gpt2-from-scratch"
LOCK_PATIENCE = 10.0  # seconds that another program may hold the store
NOTHING_LOST = "Nothing else is lost: `dvc repro` then logs the run without training again"
SERVICES = ("databricks", "databricks-uc", "uc")  # tracking URIs without a scheme
VIEW = "comparison"  # a view of the runs table that MLflow's pages offer under this name, with these columns
COLUMNS = [f"params.`{key}`" for key in ("dataset", "max_samples", "n_embd", "learning_rate", "epochs", "temperature")] + [
    f"metrics.`evaluate/{key}`" for key in ("perplexity", "floor_ratio", "bits_per_byte")
]


def store_uri() -> str:
    """Where the runs are kept: MLFLOW_TRACKING_URI, else mlflow.db in the main checkout, where `mlflow ui` looks.

    A relative place is taken from the main checkout: an experiment in a temporary copy must not keep its runs there. Whether
    any other address is right is for MLflow to say.
    """
    uri = _given()
    if path := database():
        # MLflow and SQLAlchemy disagree on `%` and `?` in a path: one makes a folder of another name. A relative path has none.
        return sqlite_uri(Path(os.path.relpath(path)) if set("%?") & set(str(path)) else path)
    if uri not in SERVICES and (folder := places.local_path(uri)):
        return (session.project_root() / folder.expanduser()).as_uri()
    return uri


def database() -> Path | None:
    """The file of a sqlite store; None for another kind of store.

    Raises:
        UserError: the store would be kept in memory, and the runs lost.
    """
    with suppress(ArgumentError):
        url = make_url(_given())
        if url.drivername == "sqlite":
            if url.database in (None, "", ":memory:"):
                raise UserError(
                    f"MLFLOW_TRACKING_URI={addresses.shown(_given())} names no file. Write sqlite:///mlflow.db. {NOTHING_LOST}"
                )
            return session.project_root() / Path(str(url.database)).expanduser()
    return None


def sqlite_uri(path: Path) -> str:
    """The URI of a sqlite file, whatever characters its path has."""
    return f"sqlite:///{path.as_posix().replace('%', '%25').replace('?', '%3F')}"


def is_of_this_checkout() -> bool:
    """Whether the store is a file in this checkout, so that all its runs are this checkout's."""
    path = database()
    return path is not None and path.is_relative_to(session.project_root())


def _is_of_another_checkout() -> bool:
    """Whether the store is a file in another checkout: its experiment is that one's."""
    path = database()
    return path is not None and not is_of_this_checkout() and any((folder / "dvc.yaml").exists() for folder in path.parents)


def connect() -> tuple[Any, str]:
    """MLflow's client and the id of our experiment, which is made if need be.

    Raises:
        UserError: the store is a file that cannot be used, or our experiment was deleted.
    """
    uri = store_uri()
    mlflow, path = _import_mlflow(), database()
    if path is None and addresses.is_database(uri):
        _try_database(uri)
    with lock():
        used = path is not None and path.exists() and _try_sqlite(path)
        if path is not None and used and is_of_this_checkout():
            places.relocate_artifacts(path, EXPERIMENT, session.project_root())
        client = mlflow.MlflowClient(uri)
        return client, _experiment_id(client, uri)


def search_runs(client: Any, experiment_id: str, filter_string: str = "", **options: Any) -> list[Any]:
    """All runs that a search finds, by MLflow's filter: its client gives a page of 1,000 at most."""
    found: list[Any] = []
    page = client.search_runs([experiment_id], filter_string, **options)
    while page:
        found += page
        page = client.search_runs([experiment_id], filter_string, page_token=page.token, **options) if page.token else []
    return found


def table(uri: str, experiment_id: str) -> str:
    """The page with the runs table."""
    return f"{site(uri)}/#/experiments/{experiment_id}/runs?workflowType=machine_learning&viewStateShareKey={VIEW}"


def site(uri: str) -> str:
    """The address of the store's pages, without the password that its URI may hold."""
    return addresses.shown(uri).rstrip("/") if uri.startswith("http") else "http://127.0.0.1:5000"


def shown_uri() -> str:
    """The store's address as it may be printed."""
    return (
        addresses.shown(store_uri()) or "that MLFLOW_TRACKING_URI names (not shown: it cannot be parsed, and may hold a secret)"
    )


def explain(error: Exception) -> str:
    """What a failed store means and what to do: a sentence of ours, and MLflow's own words in it."""
    if isinstance(error, UserError):
        return f"{error}."
    reason = addresses.without_secrets(" ".join(str(error).split()))
    if getattr(error, "error_code", "") == "INVALID_PARAMETER_VALUE" and "exceeds" in reason:
        return f"it does not take what the run has to log ({reason[:300]}). Its store is in order: report this."
    if database():
        todo = "Restore a backup, or move the file away and a new one will be created"
    else:
        todo = "If it is right, start its server; or unset MLFLOW_TRACKING_URI to use mlflow.db here"
    shown = f"{type(error).__name__}: {reason[:300]}{'...' if len(reason) > 300 else ''}"
    return f"the store {shown_uri()} returned an error ({shown}). {todo}."


def as_user_error(action: Callable[[], Any]) -> Any:
    """Do the action; what MLflow or its store raises becomes a UserError.

    Raises:
        UserError: MLflow or its store failed.
    """
    try:
        return action()
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"MLflow: {explain(error)} {NOTHING_LOST}") from error


def lock() -> files.Lock:
    """Held by one process at a time: two that create one SQLite store at the same moment ruin it for good."""
    beside = database() or session.dvc_tmp() / "mlflow"
    beside.parent.mkdir(parents=True, exist_ok=True)
    return files.Lock(f"{beside}.lock", timeout=60)


def _given() -> str:
    return os.environ.get("MLFLOW_TRACKING_URI", "").strip() or "sqlite:///mlflow.db"


def _try_sqlite(path: Path) -> bool:
    """Whether a store that is a file has something in it already.

    With one that cannot be used, MLflow would try again for minutes, or write into another program's file.
    """
    try:
        with closing(sqlite3.connect(path, timeout=LOCK_PATIENCE, isolation_level=None)) as database:
            database.execute("BEGIN IMMEDIATE")  # as a write would begin
            tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            database.execute("ROLLBACK")
        if tables and "experiments" not in tables:
            raise sqlite3.DatabaseError("it is another program's database")
        if not (os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)):
            raise sqlite3.OperationalError("attempt to write a readonly database")
    except sqlite3.Error as error:
        raise UserError(
            f"the MLflow store {path} cannot be used: {error}. End the program that holds it, make it writable for this user, "
            f"restore a backup, or move it away (a new one is created). {NOTHING_LOST}"
        ) from error
    return bool(tables)


def _try_database(uri: str) -> None:
    """Connect to a database server once: where that fails, MLflow would try for two minutes."""
    os.environ.setdefault("PGCONNECT_TIMEOUT", "10")  # seconds, for MLflow's own connections too
    engine = create_engine(uri)
    try:
        engine.connect().close()
    finally:
        engine.dispose()


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
    """Our experiment's id, made if need be; one that was renamed is known by its tag.

    A server knows where it keeps files; without one they go to mlruns/. MLflow keeps that place with the experiment, so in a
    database that several checkouts share each has an experiment of its own, the second with its folder in the name.
    """
    view = json.dumps({"selectedColumns": COLUMNS, "orderByKey": "attributes.start_time", "orderByAsc": False})
    tags = {places.PROJECT_TAG: "yes", f"mlflow.sharedViewState.{VIEW}": view}
    remote, mlruns = uri.partition(":")[0] in ("http", "https", *SERVICES), session.project_root() / "mlruns"

    def is_ours(experiment: Any) -> bool:
        place = places.local_path(experiment.artifact_location)
        return remote or place is None or place.name != mlruns.name or place.resolve() == mlruns.resolve()

    name, found = EXPERIMENT, client.get_experiment_by_name(EXPERIMENT)
    if _is_of_another_checkout() or (found is not None and not is_ours(found)):
        name = f"{EXPERIMENT} ({mlruns.parent})"
        found = client.get_experiment_by_name(name)
    if found is None:
        renamed = client.search_experiments(filter_string=f"tags.`{places.PROJECT_TAG}` = 'yes'")
        for experiment in filter(is_ours, renamed):
            return str(experiment.experiment_id)
        place = None if remote else mlruns.as_uri()
        return str(client.create_experiment(name, place, {"mlflow.experimentKind": "custom_model_development"} | tags))
    if found.lifecycle_stage == "deleted":
        raise UserError(
            f"the MLflow experiment {name} was deleted. Bring it back with its runs: mlflow experiments restore "
            f"--experiment-id {found.experiment_id}; or erase it for good: mlflow gc --experiment-ids {found.experiment_id} "
            f"(both with MLFLOW_TRACKING_URI={addresses.shown(uri) or '...'})"
        )
    for key in (key for key, value in tags.items() if found.tags.get(key) != value):  # an older store's view has other columns
        client.set_experiment_tag(found.experiment_id, key, tags[key])
    return str(found.experiment_id)
