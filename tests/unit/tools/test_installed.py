"""The end of `make setup`: an installer that installed nothing here, and said that all was well, is found out."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from source_tree import ROOT

from tools import installed

pytestmark = pytest.mark.kind("installation that did nothing here")

HERE = version("pytest")


@pytest.mark.parametrize(
    ("line", "missed"),
    [
        (f"pytest=={HERE}", []),
        (f"PyTest=={HERE}+cpu", []),
        ("# pytest==0.1\n-r requirements.txt\n", []),
        ("pytest==0.1", ["pytest==0.1"]),
        ("no-such-package==1.0", ["no-such-package==1.0"]),
    ],
)
def test_what_is_pinned_must_be_here_in_its_version(line: str, missed: list[str]) -> None:
    """A package that is missing or of another version, as an installation into another folder leaves it; any build will do."""
    assert installed.missing(line) == missed


def test_the_system_s_torch_needs_no_pin(monkeypatch: pytest.MonkeyPatch) -> None:
    """TORCH=system takes the version that is there."""
    assert installed.missing("torch==0.1") == ["torch==0.1"]
    monkeypatch.setenv("TORCH", "system")
    assert installed.missing("torch==0.1") == []


def test_a_package_that_cannot_be_imported_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its files may be damaged, or built for another processor."""
    (tmp_path / "spoilt.py").write_text("raise OSError('libspoilt.so: no such file')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(installed, "IMPORTED", ("spoilt",))
    assert "spoilt is installed and cannot be imported (libspoilt.so: no such file). Delete .venv" in str(installed.main([]))


@pytest.mark.parametrize("hidden", [(), ("no-such-package==1.0",)])
def test_the_command_ends_with_one_sentence(hidden: tuple[str, ...], tmp_path: Path) -> None:
    """Also in a Python without any package, and with packages that only PYTHONPATH brings."""
    (tmp_path / "requirements.txt").write_text("\n".join(hidden) or "torch==2.0\nmlflow==3.0\n")
    words = [sys.executable, "-I", "-S", str(ROOT / "tools/installed.py"), "requirements.txt"]  # -S: without its packages
    env = {"PYTHONPATH": str(Path(pytest.__file__).parents[1]), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: the installer ended without an error, but ") and "pip config list" in line
    assert ", ".join(hidden or ("torch==2.0", "mlflow==3.0")) in line
