"""Places: the absolute paths that MLflow keeps in a store, corrected after the checkout was moved or copied."""

from __future__ import annotations

import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from urllib.parse import urlparse
from urllib.request import url2pathname

COLUMNS = (  # where MLflow keeps places
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)


def relocate_artifacts(database: Path, experiment: str, root: Path) -> None:
    """Let the store of this checkout keep its files in this checkout; a note says so if it kept them elsewhere before.

    Nothing is read, moved or written at the old place: it may belong to another checkout now, the original of this copy.
    `database` is a sqlite file in `root`, the checkout, and not open elsewhere.
    """
    with closing(sqlite3.connect(database)) as store, store:
        found = store.execute("SELECT artifact_location FROM experiments WHERE name = ?", (experiment,)).fetchone()
        old = local_path(found[0]) if found else None
        if old is None or old.name != "mlruns" or old.parent == root:
            return
        before, now = f"{old.as_uri()}/", f"{root.as_uri()}/mlruns/"
        for table, column in COLUMNS:
            store.execute(
                f"UPDATE {table} SET {column} = rtrim(? || substr({column}, ?), '/') WHERE substr({column} || '/', 1, ?) = ?",
                (now, len(before) + 1, len(before), before),
            )
    print(
        f"note: this checkout was at {old.parent}, or is a copy of that one: {database.name} now looks for the runs' files in "
        f"{root / 'mlruns'}",
        file=sys.stderr,
    )


def local_path(uri: str) -> Path | None:
    """The folder that a URI or path names; None for a remote place."""
    if uri.startswith("file:"):
        return Path(url2pathname(urlparse(uri).path))
    return None if ":" in uri or not uri else Path(uri)
