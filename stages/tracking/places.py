"""Places: the absolute paths that MLflow keeps in a store, put right after the checkout was moved or copied."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import urlparse
from urllib.request import url2pathname

CHECKOUT = "pipeline.checkout"  # a run's tag: the folder that it ran in
OURS = "pipeline.experiment"  # an experiment's tag: it is this project's, whatever it is called now
COLUMNS = (  # where MLflow keeps places: table, column
    *(("experiments", "artifact_location"), ("runs", "artifact_uri"), ("logged_models", "artifact_location")),
    *(("model_versions", "source"), ("model_versions", "storage_location"), ("trace_tags", "value")),
)


def put_right(database: Path, experiment: str, root: Path) -> Path | None:
    """Let the store of this checkout keep its files in this checkout, and return where it kept them before, if elsewhere.

    Nothing is read, moved or written at the old place: it may belong to another checkout now, the original of this copy.

    Args:
        database: a sqlite file in `root`, not open elsewhere.
        experiment: our experiment's name.
        root: the checkout.
    """
    with closing(sqlite3.connect(database)) as store, store:
        columns = {(table, row[1]) for table, _ in COLUMNS for row in store.execute(f"PRAGMA table_info({table})")}
        if ("experiments", "artifact_location") not in columns:
            return None  # not a store yet
        found = store.execute(
            "SELECT artifact_location FROM experiments WHERE name = ? OR experiment_id IN "
            "(SELECT experiment_id FROM experiment_tags WHERE key = ?)",
            (experiment, OURS),
        ).fetchall()
        before = {place.parent for (uri,) in found if (place := local_path(uri)) and place.name == "mlruns"} - {root}
        for old in before:
            for table, column in (pair for pair in COLUMNS if pair in columns):
                for one, other in ((old.as_uri(), root.as_uri()), (str(old), str(root))):
                    store.execute(
                        f"UPDATE {table} SET {column} = ? || substr({column}, ?) "
                        f"WHERE {column} = ? OR substr({column}, 1, ?) = ?",
                        (f"{other}/mlruns", len(f"{one}/mlruns") + 1, f"{one}/mlruns", len(f"{one}/mlruns/"), f"{one}/mlruns/"),
                    )
            store.execute("UPDATE tags SET value = ? WHERE key = ? AND value = ?", (str(root), CHECKOUT, str(old)))
    return next(iter(before), None)


def local_path(uri: str) -> Path | None:
    """The folder that a URI or path names; None for a remote place."""
    parts = urlparse(uri)
    if parts.scheme == "file":
        return Path(url2pathname(parts.path))
    return None if parts.scheme or not uri else Path(uri)
