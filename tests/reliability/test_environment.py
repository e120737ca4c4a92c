"""Odd places to run in: what can work gives the same bytes, what cannot is reported in one message."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import faults
import pytest
from project import Project, assert_complete
from reference import QUIET, Reference, at_once
from refusal import check_message, digests
from stage_runs import ROOT, environment, run_stage

pytestmark = [pytest.mark.slow, pytest.mark.kind("odd environment")]


def dvc(project: Project, *words: str, env: dict[str, str]) -> str:
    """Run a DVC command with this environment alone."""
    command = [sys.executable, "-m", "dvc", *words]
    done = subprocess.run(command, cwd=project.folder, env=env, capture_output=True, text=True, errors="replace", check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def put_programs(folder: Path, *names: str) -> None:
    """Put some of the system's programs into a new folder."""
    folder.mkdir()
    for name in names:
        (folder / name).symlink_to(shutil.which(name) or name)


def put_python(folder: Path) -> None:
    """Put this Python into a folder. (A link would lose the environment.)"""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (folder / "python").chmod(0o755)


def test_pipeline_runs_in_an_odd_path_on_an_ascii_terminal(reference: Reference) -> None:
    """In a path with spaces, quotes and Unicode, on a terminal that has ASCII only, the whole pipeline runs.

    It is there that the reference ran: all other tests compare what they make in plain places with it.
    """
    assert not reference.folder.name.isascii()
    assert " " in reference.folder.name and "'" in reference.folder.name
    assert reference.said.isascii()
    assert_complete(reference.project.runs()[0], reference.project)


def test_runs_without_git_home_or_user(reference: Reference, tmp_path: Path) -> None:
    """Without the program git, and without HOME and a user's name, the stages that use them give the same bytes."""
    project, programs = reference.copy(tmp_path / "project"), tmp_path / "bin"
    put_programs(programs, "sh", "env")
    put_python(programs)
    gone = ("HOME", "USER", "LOGNAME", "XDG_")
    kept = {key: value for key, value in project.environment().items() if not key.startswith(gone)}
    env = kept | {"PATH": str(programs), "SHELL": "/bin/sh"}
    dvc(project, "repro", "--force", "--single-item", "generate", "track", env=env)
    assert reference.differences(project) == []


def test_read_only_folder_is_named(
    reference: Reference, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
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


NOTEBOOK = {"MPLBACKEND": "module://not_installed.backend_inline", "HOME": "/nonexistent", "PYTHONSAFEPATH": "1"}
NOTEBOOK |= {"XDG_CACHE_HOME": "/nonexistent/cache", "XDG_CONFIG_HOME": "/nonexistent/config"}
IDE = {"MPLBACKEND": "TkAgg", "DISPLAY": ":99", "TMPDIR": "/nonexistent", "LC_ALL": "tr_TR.UTF-8", "LANGUAGE": "de"}
IDE |= {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONNOUSERSITE": "1", "PYTHONWARNINGS": "error"}
LEFT = {  # what Jupyter, Colab, an IDE or cron leave in the environment
    "a backend for pictures that is not here, no home, a safe path": NOTEBOOK,
    "a backend for a screen, no folder for temporary files, another language, settings of Python": IDE,
}


def test_variables_of_notebooks_change_nothing(
    reference: Reference, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """Variables that a notebook or an IDE leaves change no byte, and cost neither the run nor its pictures.

    Nothing is activated, as in cron: the stages find the Python of .venv.
    """

    def completes(name: str, wishes: dict[str, str]) -> None:
        project = reference.copy(tmp_path / name)
        known = {run.id for run in project.runs()}
        put_python(project.folder / ".venv" / "bin")
        env = project.environment() | {"PATH": str(tmp_path / "bin"), "SHELL": "/bin/sh"} | wishes
        said = dvc(project, "repro", "--force", "--single-item", "track", env=env)
        assert "Traceback" not in said
        assert not [line for line in said.splitlines() if line.startswith("warning: ")], said  # bash may miss a language
        (run,) = [run for run in project.runs() if run.id not in known]
        assert run.complete and "plots/loss.png" in run.artifacts()
        assert reference.differences(project) == []

    put_programs(tmp_path / "bin", "sh", "env", "git")
    at_once([partial(completes, *case) for case in LEFT.items()], record_property)


def test_python_without_the_packages_says_what_to_activate(tmp_path: Path) -> None:
    """The system's Python, by accident: one sentence says what to activate."""
    words = [sys.executable, "-S", "-m", "stages.generate"]  # -S: without the folder of the installed packages
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    check_message(done.stderr, [sys.executable, "does not have the project's packages", "activate", "make setup"])


def test_a_stream_that_nobody_reads_changes_nothing(reference: Reference, tmp_path: Path) -> None:
    """A reader that goes away: the stage ends well, and its run is complete."""
    folder, store = reference.copy_data(tmp_path / "project"), f"sqlite:///{tmp_path}/runs.db"
    env = environment(folder, **QUIET, MLFLOW_TRACKING_URI=store)
    script = f"set -o pipefail; {sys.executable} -m stages.track | head -c 0"
    done = subprocess.run(["bash", "-c", script], cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (run,) = Project(folder).runs(store)
    assert run.complete


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become a user without a name")
def test_user_without_a_name_gets_a_complete_run(reference: Reference, tmp_path: Path) -> None:
    """A container's user that /etc/passwd does not know, without a home: stages run by hand, with a complete run."""
    with tempfile.TemporaryDirectory(prefix="nobody-", dir="/tmp") as name:
        folder = reference.copy_data(Path(name) / "project")
        for path in [Path(name), *Path(name).rglob("*")]:
            os.chown(path, 54321, 54321)
        store = f"sqlite:///{name}/runs.db"
        env = environment(folder, **QUIET, MLFLOW_TRACKING_URI=store, HOME="/nonexistent")
        env = {key: value for key, value in env.items() if key not in ("USER", "LOGNAME", "LNAME", "USERNAME")}
        words = [sys.executable, "-m", "stages.track"]
        who: dict[str, Any] = {"user": 54321, "group": 54321, "extra_groups": []}
        try:
            done = subprocess.run(words, cwd=folder, env=env, capture_output=True, text=True, check=False, **who)
        except PermissionError:
            pytest.skip(f"other users cannot run {sys.executable}")
        assert done.returncode == 0, done.stderr
        (run,) = Project(folder).runs(store)
        assert run.complete and "plots/loss.png" in run.artifacts()
