"""For the whole suite: which tests come first, and the tokenized project."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from shared import made_once
from stage_runs import run_stage, write_params

pytest_plugins = ["table", "reference"]
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # the workers share the cores already


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first: the quick ones then fill the gap until both workers are done.

    Each file has one worker (`--dist loadfile`), because its tests share a project. Not `loadgroup`: pytest-xdist 3.8 takes no
    notice of the groups with pytest 9.2.
    """
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
