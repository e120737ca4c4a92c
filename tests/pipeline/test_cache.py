"""DVC's cache: nothing that is done to the files in data/ reaches it; what was corrupted anyway is found and recreated."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

import pytest
from project import Project
from stage_runs import TINY

pytestmark = pytest.mark.slow
STAGES = ("download", "tokenize")


def outputs(project: Project) -> list[Path]:
    return [path for stage in STAGES for path in (project.folder / "data" / stage).rglob("*") if path.is_file()]


def contents(project: Project) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in outputs(project)}


def links(project: Project) -> set[int]:
    return {path.stat().st_nlink for path in outputs(project)}


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
    project.dvc("checkout", "--force", "--relink", *STAGES)
    assert contents(project) == before and links(project) == {2}
    assert "up to date" in project.dvc("status", "tokenize")


def test_what_is_written_into_an_output_does_not_reach_the_cache(finished: Project, tmp_path: Path) -> None:
    """As the project is configured, an output is a file of its own, for root too: `dvc checkout` brings back what it was."""
    project = finished.duplicate(tmp_path / "project")
    project.dvc("checkout", "--relink", *STAGES)
    assert links(project) == {1}
    before, path = contents(project), project.folder / "data/download/about.json"
    path.chmod(0o644)
    path.write_text(f"{path.read_text()}more\n")
    project.dvc("checkout", "--force", "download")
    assert contents(project) == before
    assert "up to date" in project.dvc("status", "download")


def test_a_cache_that_was_written_into_is_found_and_made_again(finished: Project, tmp_path: Path) -> None:
    """With hard links, as another project's or an older configuration has them: `make verify` names the object and the output,
    and what it says to type, and `dvc repro`, bring the bytes back."""
    project = finished.duplicate(tmp_path / "project")
    project.dvc("config", "cache.type", "hardlink")
    project.dvc("checkout", "--relink", *STAGES)
    before, path = contents(project), project.folder / "data/download/about.json"
    path.chmod(0o644)
    path.write_text(f"{path.read_text()}more\n")
    path.chmod(0o444)  # as it was: root need not change that
    project.dvc("checkout", "--force", "download")
    assert contents(project) != before and "up to date" in project.dvc("status", "download"), "DVC sees nothing"
    said = project.python("-m", "tools.verify", ok=False)
    assert "(data/download/about.json)" in said and "commit" not in said
    (words,) = [line.partition(": ")[2] for line in said.splitlines() if "rm -rf" in line]
    for name in shlex.split(words)[2:]:
        shutil.rmtree(name) if Path(name).is_dir() else (project.folder / name).unlink()
    project.dvc("repro", "download")
    assert contents(project) == before
    project.python("-m", "tools.cache_objects")
