"""DVC's cache: what lies in data/ is a link into it, and no stage writes through the link."""

from __future__ import annotations

from pathlib import Path

import pytest
from project import Project
from stage_runs import TINY

pytestmark = pytest.mark.slow
STAGES = ("download", "tokenize")


def contents(project: Project) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for stage in STAGES for path in (project.folder / "data" / stage).iterdir()}


def links(project: Project) -> set[int]:
    return {path.stat().st_nlink for stage in STAGES for path in (project.folder / "data" / stage).iterdir()}


def test_stages_replace_links_and_leave_the_cache_alone(finished: Project, tmp_path: Path) -> None:
    """With hard links the outputs are the cache's own files. A stage that is run by hand with other params puts new files in
    their places: what the cache holds stays as it was, and comes back."""
    project = finished.duplicate(tmp_path / "project")
    project.dvc("config", "cache.type", "hardlink")
    project.dvc("checkout", "--relink", *STAGES)
    assert links(project) == {2}
    before = contents(project)

    project.set(max_samples=40, max_val_samples=20)
    for stage in STAGES:
        project.python("-m", f"stages.{stage}")
    after = contents(project)
    assert after.keys() == before.keys() and links(project) == {1}
    assert all(after[name] != before[name] for name in before if name.endswith((".parquet", ".npy")))

    project.set(**{key: TINY[key] for key in ("max_samples", "max_val_samples")})
    project.dvc("checkout", "--force", *STAGES)
    assert contents(project) == before and links(project) == {2}
    assert "up to date" in project.dvc("status", "tokenize")
