"""`make setup`: which commands install what, how an interruption is continued, what is refused in one sentence."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import pytest
from source_tree import ROOT

pytestmark = pytest.mark.kind("installation that did nothing here")

# Stands for the Python that makes .venv, for the Python in it and for uv: it notes each command. FAILS names one that fails.
PROGRAM = """#!/bin/sh
case "$*" in
  *"-c import sys"*) ;;
  *) echo "$(basename $0) $*" >> calls ;;
esac
case "$*" in
  *"${FAILS:-nothing}"*) exit 1 ;;
  *"-m venv"*) mkdir -p .venv/bin; touch .venv/pyvenv.cfg; cp $0 .venv/bin/python; cp $0 .venv/bin/uv ;;
esac
[ "$PIP_TARGET" ] && echo "PIP_TARGET reached it" >> calls
exit 0
"""
UV = "uv pip install --python .venv --torch-backend=auto -r requirements.txt"
PIP = "python -m pip install -r requirements.txt"
ALONE = "python -m pip install --no-deps -r "  # and a file without torch


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with pins, this project's Makefile and a program that only notes what it is asked."""
    (tmp_path / "Makefile").symlink_to(ROOT / "Makefile")
    (tmp_path / "requirements.txt").write_text("nothing-much==1.0\ntorch==2.13.0\n")
    (tmp_path / "requirements-dev.txt").write_text("-r requirements.txt\nmore==1.0\n")
    (tmp_path / "interpreter").write_text(PROGRAM)
    (tmp_path / "interpreter").chmod(0o755)
    return tmp_path


def make(
    folder: Path, *words: str, target: str = "setup", fails: str = "", env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run make in the folder with the program as the Python."""
    command = ["make", target, "PYTHON=./interpreter", *words]
    own = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "PIP_TARGET": "/elsewhere", "FAILS": fails}
    return subprocess.run(command, cwd=folder, env=own | dict(env or {}), capture_output=True, text=True, check=False)


def calls(folder: Path) -> list[str]:
    """The commands since the last look, without the final check."""
    path = folder / "calls"
    found = path.read_text().splitlines() if path.exists() else []
    path.unlink(missing_ok=True)
    return [line for line in found if not line.startswith(("python -I", "interpreter -c"))]


def test_uv_installs_the_pins_with_the_build_of_torch_that_suits(folder: Path) -> None:
    """uv is installed into .venv and installs the rest; what redirects pip does not reach it; a second command does nothing."""
    done = make(folder)
    assert done.returncode == 0, done.stderr
    assert calls(folder) == ["interpreter -m venv --clear .venv", "python -m pip install --quiet uv", UV]
    make(folder)
    assert not calls(folder)
    assert make(folder, target=".venv/.ready-dev").returncode == 0
    assert calls(folder)[-1] == "uv pip install --python .venv -r requirements-dev.txt"
    make(folder, target=".venv/.ready-dev")
    assert not calls(folder)


@pytest.mark.parametrize(
    ("words", "fails", "last"),
    [
        ((), "--torch-backend", [UV, PIP]),
        (("TORCH=cu126",), "--torch-backend", [UV.replace("auto", "cu126")]),
        (("TORCH=system",), "", ["interpreter -m venv --clear --system-site-packages --without-pip .venv", ALONE]),
    ],
)
def test_another_installer_or_build(words: tuple[str, ...], fails: str, last: list[str], folder: Path) -> None:
    """Where uv's indexes cannot be reached, pip installs the same pins; but no other build in place of one that was asked for.
    TORCH=system: .venv sees the packages around it, and every other pin goes into .venv, alone."""
    assert (make(folder, *words, fails=fails).returncode == 0) is (words != ("TORCH=cu126",))
    said = calls(folder)[-len(last) :]
    assert [line.partition("/dev/fd/")[0] for line in said] == last


@pytest.mark.parametrize("used", [True, False])
@pytest.mark.parametrize("variable", ["VIRTUAL_ENV", "CONDA_PREFIX"])
def test_an_activated_environment_with_the_pins_is_used(variable: str, used: bool, folder: Path) -> None:
    """Without a .venv the targets use the environment that is activated, if it has every pin; else they make .venv."""
    (folder / "requirements.txt").write_text(f"pytest=={version('pytest') if used else '0.1'}\n")
    (folder / "requirements-dev.txt").write_text("no-such-package==1.0\n")
    (folder / "mine" / "bin").mkdir(parents=True)
    (folder / "mine" / "bin" / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (folder / "mine" / "bin" / "python").chmod(0o755)
    active = {variable: str(folder / "mine")}
    done = make(folder, env=active)
    assert done.returncode == 0, done.stderr
    assert (folder / ".venv").exists() is not used
    if used:
        assert not calls(folder)
        dev = make(folder, target="lint", env=active)
        assert f"error: {folder}/mine lacks packages for this: pip install -r requirements-dev.txt" in dev.stderr


@pytest.mark.parametrize(("target", "word"), [("reproduce", "RUN"), ("register", "RUN"), ("compare-code", "BASE")])
def test_what_must_be_named_is_asked_for(target: str, word: str, folder: Path) -> None:
    """A target without its run or commit says what to type, instead of looking for one without a name."""
    make(folder)
    make(folder, target=".venv/.ready-dev")
    done = make(folder, target=target)
    assert done.returncode != 0
    assert f"error: {word} is missing: make {target} {word}=" in done.stderr


@pytest.mark.parametrize("broken", ["pip install", "import datasets"])
def test_an_unfinished_installation_begins_again(broken: str, folder: Path) -> None:
    """What an interruption leaves, or what cannot be imported in the end, is not taken for an installation."""
    assert make(folder, fails=broken).returncode != 0
    calls(folder)
    assert make(folder).returncode == 0
    assert calls(folder)[0] == "interpreter -m venv --clear .venv"


def test_new_pins_are_installed_into_the_same_environment(folder: Path) -> None:
    """After a change of requirements.txt .venv stays; only an interruption then makes it anew."""
    make(folder)
    calls(folder)
    (folder / "requirements.txt").touch()
    assert make(folder, "-W", "requirements.txt").returncode == 0
    assert calls(folder) == ["python -m pip install --quiet uv", UV]


@pytest.mark.parametrize(
    ("words", "fails", "message"),
    [
        ((), "import sys", "Python 3.11 or newer is needed. Use another interpreter: PYTHON=python3.12"),
        ((), "import ensurepip", "sudo apt install python3-venv"),
        (("TORCH=system",), "import torch", "./interpreter lacks the module torch"),
    ],
)
def test_what_cannot_work_is_refused_in_one_sentence(words: tuple[str, ...], fails: str, message: str, folder: Path) -> None:
    """A Python that is too old, Debian's without ensurepip, a system without PyTorch: what to do, and no .venv."""
    done = make(folder, *words, fails=fails)
    assert done.returncode != 0
    assert [line for line in done.stderr.splitlines() if line.startswith("error: ") and message in line]
    assert not (folder / ".venv").exists()


def test_a_folder_in_the_way_stays(folder: Path) -> None:
    """A folder called .venv that is something else is never removed."""
    (folder / ".venv").mkdir()
    (folder / ".venv" / "notes.txt").write_text("mine")
    assert "error: .venv exists but is not a virtual environment" in make(folder).stderr
    assert (folder / ".venv" / "notes.txt").read_text() == "mine"
