"""Places: the absolute paths that MLflow keeps in a store, corrected after the checkout was moved or copied."""

from __future__ import annotations

import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from urllib.parse import urlparse
from urllib.request import url2pathname

PROJECT_TAG = "pipeline.experiment"  # an experiment's tag: it is this project's, whatever it is called now
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
        locations = store.execute(
            "SELECT name, artifact_location FROM experiments WHERE name = ? OR experiment_id IN "
            "(SELECT experiment_id FROM experiment_tags WHERE key = ?) ORDER BY name <> ?",
            (experiment, PROJECT_TAG, experiment),
        ).fetchall()
        places = [(name, local_path(location)) for name, location in locations]
        # a checkout that uses another's store has its folder in its experiment's name
        found = [place for name, place in places if not (place and name == f"{experiment} ({place.parent})")]
        old = found[0] if found else None
        if old is None or old.name != "mlruns" or root in (place.parent for place in found if place):
            return  # the others are of checkouts that share this store
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
