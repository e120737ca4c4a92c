"""Odd places to run in: what can work gives the same bytes, what cannot is said in one message."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import faults
import pytest
from project import Project, assert_complete
from reference import Reference, at_once
from refusal import check_message, digests
from stage_runs import run_stage

pytestmark = [pytest.mark.slow, pytest.mark.kind("odd environment")]


def dvc(project: Project, *words: str, env: dict[str, str], folder: str = ".") -> str:
    """Run a DVC command with this environment alone, in a folder of the project."""
    command = [sys.executable, "-m", "dvc", *words]
    done = subprocess.run(
        command, cwd=project.folder / folder, env=env, capture_output=True, text=True, errors="replace", check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_odd_path_and_narrow_terminal(reference: Reference) -> None:
    """In a path with spaces, quotes and Unicode, on a terminal that has ASCII only, the whole pipeline runs.

    It is there that the reference ran: all other tests compare what they make in plain places with it.
    """
    assert not reference.folder.name.isascii()
    assert " " in reference.folder.name and "'" in reference.folder.name
    assert reference.said.isascii()
    assert_complete(reference.project.runs()[0], reference.project)


def test_without(reference: Reference, tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    """Without the program git, and without HOME, the stages that use them give the same bytes."""

    def without_git() -> None:
        project, programs = reference.copy(tmp_path / "git"), tmp_path / "bin"
        programs.mkdir()
        (programs / "sh").symlink_to("/bin/sh")
        (programs / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')  # a link would lose the environment
        (programs / "python").chmod(0o755)
        write_again(project, project.environment() | {"PATH": str(programs), "SHELL": "/bin/sh"})

    def without_home() -> None:
        project = reference.copy(tmp_path / "home")
        gone = ("HOME", "USER", "LOGNAME", "XDG_")
        write_again(project, {key: value for key, value in project.environment().items() if not key.startswith(gone)})

    def write_again(project: Project, env: dict[str, str]) -> None:
        dvc(project, "repro", "--force", "--single-item", "generate", "track", env=env)
        assert reference.differences(project) == []

    at_once([without_git, without_home], record_property)


def test_from_a_subfolder(reference: Reference, tmp_path: Path) -> None:
    """`dvc repro -P` works from any folder of the project; a stage started there by hand says where to go."""
    project = reference.copy(tmp_path / "project")
    assert "up to date" in dvc(project, "repro", "-P", env=project.environment(), folder="docs")
    done = run_stage(project.folder / "docs", "generate")
    assert done.returncode == 1
    check_message(done.stderr, ["params.yaml is missing", "Run from the project's folder"])


def test_read_only_folder(reference: Reference, tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    """A folder that cannot be written: the stage says which one, and changes nothing."""

    def refuses(stage: str, name: str) -> None:
        folder = reference.copy_data(tmp_path / stage)
        before = digests(folder)
        with faults.read_only(folder):
            done = run_stage(folder, stage, prepare=faults.obeys_modes)
        assert done.returncode == 1
        check_message(done.stderr, [name, "permission denied", "Make the file or folder readable and writable"])
        assert digests(folder) == before

    cases = {"download": "data/download", "train": ".checkpoints", "generate": "data/generate"}
    at_once([partial(refuses, *case) for case in cases.items()], record_property)
