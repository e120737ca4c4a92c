"""Store: where the MLflow runs are kept, opened by one process at a time, and what its failures mean."""

from __future__ import annotations

import json
import logging
import os
import re
import shlex
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from stages.common import files, session
from stages.common.errors import UserError
from stages.common.terminal import counted
from stages.tracking import places

EXPERIMENT = "gpt2-from-scratch"
LOCK_PATIENCE = 10.0  # seconds that another program may hold the store
NOTHING_LOST = "Nothing else is lost: `dvc repro` then logs the run without training again"
SERVERS, DATABASES = ("http", "https"), ("postgresql", "mysql", "mssql", "sqlite")  # schemes of a tracking URI
SERVICES = ("databricks", "databricks-uc", "uc")
VIEW = "comparison"  # a view of the runs table that MLflow's pages offer under this name, with these columns
COLUMNS = [f"params.`{key}`" for key in ("dataset", "max_samples", "n_embd", "learning_rate", "epochs", "temperature")] + [
    f"metrics.`{key}`" for key in ("perplexity", "floor_ratio", "final_val_loss")
]


def store_uri() -> str:
    """Where the runs are kept: MLFLOW_TRACKING_URI, else mlflow.db in the main checkout, where `mlflow ui` looks.

    A relative place is taken from the main checkout: an experiment in a temporary copy must not keep its runs there.

    Raises:
        UserError: MLFLOW_TRACKING_URI names no store.
    """
    uri = _given()
    scheme = uri.partition("://")[0] if "://" in uri else uri.partition(":")[0]
    if scheme == "sqlite":
        if (path := database()) is None:
            raise _no_store("names no file", "Write sqlite:///mlflow.db")
        # MLflow and SQLAlchemy disagree on `%` and `?` in a path: one makes a folder of another name. A relative path has none.
        return sqlite_uri(Path(os.path.relpath(path)) if set("%?") & set(str(path)) else path)
    if scheme == "file" or uri.startswith((".", "/", "~")) or (":" not in uri and uri not in SERVICES):
        place = session.root() / Path((places.local_path(uri) or Path(uri)) if scheme == "file" else uri).expanduser()
        if place.suffix in (".db", ".sqlite", ".sqlite3"):
            raise _no_store("has no scheme", f"Write sqlite:///{uri}")
        if os.environ.get("MLFLOW_ALLOW_FILE_STORE", "").lower() not in ("true", "1"):
            raise _no_store(
                "names a folder: MLflow's old file store, which MLflow 3 no longer opens",
                "Write sqlite:///mlflow.db (or set MLFLOW_ALLOW_FILE_STORE=true)",
            )
        return place.as_uri()
    if "://" not in uri and uri not in SERVICES:
        raise _no_store("has no scheme", f"Write http://{uri}")
    if scheme.partition("+")[0] not in (*SERVERS, *DATABASES, *SERVICES):
        raise _no_store(f"names no kind of store that MLflow knows ({scheme})", "Write http://host:port or sqlite:///file")
    return uri


def database() -> Path | None:
    """The file of a sqlite store; None for another kind of store, and for one that is kept in memory."""
    uri = _given()
    name = unquote(uri.removeprefix("sqlite:///").partition("?")[0])
    if not uri.startswith("sqlite:///") or name in ("", ":memory:"):
        return None
    return session.root() / Path(name).expanduser()


def sqlite_uri(path: Path) -> str:
    """The URI of a sqlite file, whatever characters its path has."""
    return f"sqlite:///{path.as_posix().replace('%', '%25').replace('?', '%3F')}"


def is_of_this_checkout() -> bool:
    """Whether the store is a file in this checkout, so that all its runs are this checkout's."""
    path = database()
    return path is not None and path.is_relative_to(session.root())


def connect() -> tuple[Any, str]:
    """MLflow's client and the id of our experiment, which is made if need be.

    Raises:
        UserError: the store is a file that cannot be read or written, or MLFLOW_TRACKING_URI names none.
    """
    uri = store_uri()
    mlflow, path = _import_mlflow(), database()
    with lock():
        if path is not None and path.exists():
            _try_sqlite(path)
            if is_of_this_checkout() and (old := places.put_right(path, EXPERIMENT, session.root())):
                print(
                    f"note: this checkout was at {old}, or is a copy of that one: {path.name} now looks for the runs' files "
                    f"in {session.root() / 'mlruns'}",
                    file=sys.stderr,
                )
        client = mlflow.MlflowClient(uri)
        return client, _experiment_id(client, uri)


def table(uri: str, experiment_id: str) -> str:
    """The page with the runs table."""
    return f"{site(uri)}/#/experiments/{experiment_id}/runs?workflowType=machine_learning&viewStateShareKey={VIEW}"


def site(uri: str) -> str:
    """The address of the store's pages, without the password that its URI may hold."""
    return _without_password(uri).rstrip("/") if uri.startswith("http") else "http://127.0.0.1:5000"


def explain(error: Exception) -> str:
    """What a failed store means and what to do, in a sentence or two."""
    if isinstance(error, UserError):
        return f"{error}."
    uri = store_uri()
    shown, reason = _without_password(uri), _without_password(" ".join(str(error).split()))
    if version := re.search(r"out-of-date database schema \(found version (\w+)", reason):
        return f"the store {shown} was made by {_other_version(version[1], uri)}"
    if isinstance(error, ModuleNotFoundError):
        return f"the store {shown} needs the Python module {error.name}. Install the package that has it."
    reason = reason if len(reason) <= 300 else f"{reason[:297]}..."
    if database():
        todo = "Put back a copy, or move it away: a new one is made"
    else:
        todo = f"Start {'the server' if uri.startswith('http') else 'it'}, or unset MLFLOW_TRACKING_URI to use mlflow.db here"
    return f"the store {shown} does not answer as it should ({type(error).__name__}: {reason}). {todo}."


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
        raise UserError(f"MLflow: {explain(error)} {NOTHING_LOST}") from error


def lock() -> files.Lock:
    """Held by one process at a time: two that create one SQLite store at the same moment ruin it for good."""
    beside = database() or session.scratch() / "mlflow"
    beside.parent.mkdir(parents=True, exist_ok=True)
    return files.Lock(f"{beside}.lock", timeout=60)


def _given() -> str:
    return os.environ.get("MLFLOW_TRACKING_URI", "").strip() or "sqlite:///mlflow.db"


def _no_store(reason: str, todo: str) -> UserError:
    given = _without_password(os.environ.get("MLFLOW_TRACKING_URI", ""))
    return UserError(f"MLFLOW_TRACKING_URI={given} {reason}. {todo}. {NOTHING_LOST}")


def _other_version(found: str, uri: str) -> str:
    """Whose schema it is, and what to do: MLflow takes every other one for an old one."""
    import mlflow
    from mlflow.store import db_migrations

    known = any(found in path.name for path in Path(str(db_migrations.__file__)).parent.glob("versions/*.py"))
    if known:
        return (
            f"an older MLflow than this one ({mlflow.__version__}). Make a copy of it, then bring it up to date: "
            f"mlflow db upgrade {shlex.quote(uri)}"
        )
    return (
        f"a newer MLflow than this one ({mlflow.__version__}), which cannot read it. Install that version here, or use another "
        "store: set MLFLOW_TRACKING_URI, or move mlflow.db away"
    )


def _try_sqlite(path: Path) -> None:
    """Say within seconds what is wrong with a store that is a file: MLflow tries again and again, for minutes."""
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
        todo = "End the program that holds it (on a network disk: keep the project on a disk of this machine)"
        reason, todo = str(error), todo if held else "Make it a file that can be read and written"
    except sqlite3.DatabaseError as error:
        reason, todo = str(error), "Put back a copy, or move it away: a new one is made"
    if reason:
        raise UserError(f"the MLflow store {path} cannot be used: {reason}. {todo}. {NOTHING_LOST}")


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

    A server knows where it keeps files; without one they go to mlruns/.
    """
    found = client.get_experiment_by_name(EXPERIMENT)
    if found is None:
        renamed = client.search_experiments(filter_string=f"tags.`{places.OURS}` = 'yes'")
        if renamed:
            return str(renamed[0].experiment_id)
        remote = uri.partition(":")[0] in (*SERVERS, *SERVICES)
        place = None if remote else (session.root() / "mlruns").as_uri()
        view = json.dumps({"selectedColumns": COLUMNS, "orderByKey": "attributes.start_time", "orderByAsc": False})
        kind = {"mlflow.experimentKind": "custom_model_development", f"mlflow.sharedViewState.{VIEW}": view}
        return str(client.create_experiment(EXPERIMENT, place, kind | {places.OURS: "yes"}))
    if found.lifecycle_stage == "deleted":
        _empty_again(client, found.experiment_id)
    if places.OURS not in found.tags:
        client.set_experiment_tag(found.experiment_id, places.OURS, "yes")
    return str(found.experiment_id)


def _empty_again(client: Any, experiment_id: str) -> None:
    """Bring a deleted experiment back, because its name is taken, without its runs: what a user deleted stays deleted."""
    client.restore_experiment(experiment_id)  # this brings back every run, those deleted one by one before as well
    count = 0
    while runs := client.search_runs([experiment_id], max_results=1000):
        for run in runs:
            client.delete_run(run.info.run_id)
        count += len(runs)
    print(
        f"note: the MLflow experiment {EXPERIMENT} had been deleted and is restored, but not its {counted(count, 'run')} "
        "(mlflow runs restore --run-id ID brings one back)",
        file=sys.stderr,
    )


def _without_password(text: str) -> str:
    """The text with `scheme://user:password@host` cut to `scheme://host`."""
    return re.sub(r"//[^/@\s]*@", "//", text)
