"""For the whole suite: which tests share a worker and which come first; the tokenized project."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from shared import made_once
from stage_runs import run_stage, write_params

pytest_plugins = ["table", "reference"]
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # the workers share the cores already


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The slow tests of a file share a worker, because they share a project; they begin, and the quick ones fill the gaps."""
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.xdist_group(item.path.stem))
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(scope="session")
def tokenized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project folder with params.yaml, data/download and data/tokenize of the tiny pipeline. Copy it; don't write in it."""

    def make(folder: Path) -> None:
        write_params(folder, {})
        for stage in ("download", "tokenize"):
            done = run_stage(folder, stage)
            assert done.returncode == 0, done.stderr

    return made_once(tmp_path_factory, "tokenized", make)
