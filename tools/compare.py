"""Compare the experiments: what each changed, and four results, in a table that fits the terminal.

python -m tools.compare      (make compare)
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Iterator
from typing import Any, NamedTuple

from dvc.repo import Repo
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from stages.common import command, session
from stages.tracking.run import param_text

RESULTS = {  # a metric and the stage that measures it
    "perplexity": "evaluate",
    "floor_ratio": "evaluate",
    "bits_per_byte": "evaluate",
    "val_loss": "train",
}
WIDTH = 100  # columns, where there is no terminal


class Row(NamedTuple):
    """The commit, or one of its experiments."""

    name: str
    changed: dict[str, Any]  # the params that differ from the commit's
    results: dict[str, float]
    state: str  # of an experiment that has not run to its end, such as Queued


def main(args: argparse.Namespace) -> None:
    """Print the table, the lowest perplexity first."""
    with Repo(str(session.project_root())) as repo:
        found = list(rows(repo))
    table = Table("experiment", "changed", box=box.SIMPLE, header_style="")
    for name in RESULTS:
        table.add_column(name.replace("_", "\n"), justify="right", no_wrap=True)  # a name on several lines is narrow
    for row in sorted(found, key=lambda row: row.results.get("perplexity", float("inf"))):
        changed = " ".join([*filter(None, [row.state]), *(f"{key}={param_text(value)}" for key, value in row.changed.items())])
        results = [f"{row.results[name]:.4f}" if name in row.results else "-" for name in RESULTS]
        table.add_row(Text(row.name, overflow="fold"), Text(changed or "-", overflow="fold"), *results)
    Console(width=shutil.get_terminal_size((WIDTH, 24)).columns, highlight=False).print(table)
    if len(found) < 2:
        print("No experiments of this commit yet. Make one: dvc exp run -S temperature=0.7")


def rows(repo: Repo) -> Iterator[Row]:
    """The newest commit and its experiments, as DVC knows them."""
    for state in repo.experiments.show(hide_workspace=True):
        base = _read(state.data, "params", "params.yaml")
        yield Row(state.name or state.rev[:7], {}, _results(state.data), "")
        for each in state.experiments or []:
            one, status = each.revs[0], _state(each)
            params = _read(one.data, "params", "params.yaml")
            changed = {key: value for key, value in params.items() if key not in base or base[key] != value}
            yield Row(one.name or one.rev[:7], changed, {} if status else _results(one.data), status)


def _results(data: Any) -> dict[str, float]:
    found = {name: _read(data, "metrics", f"data/{stage}/metrics.json").get(name) for name, stage in RESULTS.items()}
    return {name: value for name, value in found.items() if isinstance(value, int | float)}


def _read(data: Any, kind: str, path: str) -> dict[str, Any]:
    """A file of params or metrics; empty where DVC could not read it."""
    found = getattr(data, kind, {}).get(path, {}).get("data", {}) if data else {}
    return dict(found)


def _state(experiments: Any) -> str:
    """Whether it waits, runs or has failed; empty for one that has run to its end."""
    state = str(getattr(experiments.executor, "state", "") or "")
    return "" if state.lower() == "success" else state


if __name__ == "__main__":
    command.run(main, __doc__)
