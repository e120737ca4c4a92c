"""Installation: made whole, continued after an interruption, refused in one sentence where it cannot work."""

from __future__ import annotations

import ast
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tools import install

ROOT = Path(__file__).parents[3]
PIN = "nothing-much==1.0"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one pinned package, which pip finds beside it and not in the network."""
    with zipfile.ZipFile(tmp_path / "nothing_much-1.0-py3-none-any.whl", "w") as wheel:
        info = "nothing_much-1.0.dist-info"
        wheel.writestr("nothing_much.py", "answer = 42\n")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: nothing-much\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", f"nothing_much.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
    (tmp_path / "requirements.txt").write_text(f"# pins\n{PIN}\n")
    (tmp_path / "requirements-dev.txt").write_text("-r requirements.txt\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    return tmp_path


def set_up(*words: str, requirements: str = "requirements.txt") -> subprocess.CompletedProcess[str]:
    """Run the script as `make setup` does."""
    script = [sys.executable, str(ROOT / "tools" / "install.py"), requirements, *words]
    return subprocess.run(script, capture_output=True, text=True, check=False)


def answer(folder: Path) -> str:
    """What the installed package says."""
    words = [str(folder / ".venv/bin/python"), "-c", "import nothing_much; print(nothing_much.answer)"]
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()


def fake(path: Path, script: str) -> Path:
    """A program that is a shell script."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


@pytest.mark.slow
def test_a_second_command_continues_after_an_interruption(folder: Path) -> None:
    """A fresh folder is set up; then a package that lost a file is installed again."""
    done = set_up()
    assert done.returncode == 0, done.stderr
    assert "Installing 1 packages into .venv with pip" in done.stdout
    assert answer(folder) == "42"
    (site,) = (folder / ".venv/lib").glob("python*/site-packages")
    (site / "nothing_much.py").unlink()
    assert "nothing_much-1.0 is incomplete: it is installed again" in set_up(requirements="requirements-dev.txt").stdout
    assert answer(folder) == "42"


def test_a_half_made_venv_is_made_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the making of .venv was interrupted its Python has no pip: it is made again, and the packages are installed."""
    fake(folder / ".venv/bin/python", '[ "$1" = -c ]')
    (folder / ".venv/pyvenv.cfg").touch()
    script = "mkdir -p .venv/bin; printf '#!/bin/sh\\necho $* >> calls\\n' > .venv/bin/python; chmod +x .venv/bin/python"
    monkeypatch.setattr(install, "BASE", fake(folder / "python", script))
    install.main(Path("requirements.txt"), "", "")
    assert (folder / "calls").read_text().startswith("-m pip install --requirement requirements.txt")


def test_without_python3_venv_it_says_what_to_type(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On Debian and Ubuntu ensurepip is a package of its own: one message with the command, and no half-made .venv."""
    found = install.importlib.util.find_spec
    monkeypatch.setattr(install.importlib.util, "find_spec", lambda name: None if name == "ensurepip" else found(name))
    with pytest.raises(install.Problem, match="sudo apt install python3-venv"):
        install.main(Path("requirements.txt"), "", "")
    assert not (folder / ".venv").exists()


def test_a_failed_venv_leaves_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Python that fails half-way leaves no .venv, so that the next try begins at the beginning."""
    monkeypatch.setattr(install, "BASE", fake(folder / "python", "mkdir .venv; echo no room >&2; exit 1"))
    with pytest.raises(install.Problem, match="failed; see above"):
        install.main(Path("requirements.txt"), "", "")
    assert not (folder / ".venv").exists()


def test_what_is_in_the_way_stays(folder: Path) -> None:
    """A folder called .venv that is something else is never removed."""
    (folder / ".venv").mkdir()
    (folder / ".venv" / "notes.txt").write_text("mine")
    done = set_up()
    assert done.returncode == 1
    assert done.stderr.startswith("error: .venv is in the way")
    assert (folder / ".venv" / "notes.txt").read_text() == "mine"


def test_a_pin_that_cannot_be_had_is_reported(folder: Path) -> None:
    """pip's own reason is in the message, without a traceback, and pip's whole output is kept."""
    fake(
        folder / ".venv/bin/python", '[ "$3" != install ] && exit 0; echo "ERROR: No matching distribution found for x"; exit 1'
    )
    done = set_up()
    assert done.returncode == 1
    assert "ERROR: No matching distribution found for x" in done.stderr
    assert "Traceback" not in done.stderr
    assert "No matching distribution" in (folder / ".venv/install.log").read_text()


def test_uv_is_used_when_it_is_installed(folder: Path) -> None:
    """The same pins, by uv; with a build of PyTorch that build comes first, alone, from PyTorch's own index."""
    (folder / "requirements.txt").write_text(f"{PIN}\ntorch==2.13.0\n")
    uv = fake(folder / "uv", 'echo "$@" >> calls; [ "$1" = venv ] && mkdir .venv; exit 0')
    done = set_up("--uv", str(uv), "--torch", "cpu")
    assert done.returncode == 0, done.stderr
    made, torch, rest = (folder / "calls").read_text().splitlines()
    assert made.startswith("venv --quiet --seed --python")
    assert torch.endswith("--no-deps --index-url https://download.pytorch.org/whl/cpu torch==2.13.0")
    assert rest == "pip install --python .venv/bin/python --requirement requirements.txt"


def test_the_system_s_torch_is_left_as_it_is(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TORCH=system: .venv sees the packages around it, and every pin but PyTorch's goes into .venv, alone."""
    (folder / "requirements.txt").write_text(f"{PIN}\ntorch==2.13.0\n")
    script = "[ $1 = -c ] && exit 0; echo $* >> calls; mkdir -p .venv/bin; cp python .venv/bin/python"
    monkeypatch.setattr(install, "BASE", fake(folder / "python", script))
    install.main(Path("requirements-dev.txt"), "system", "")
    made, installed = (folder / "calls").read_text().splitlines()
    assert made == "-m venv --system-site-packages --without-pip .venv"
    assert installed.startswith("-m pip install --no-deps --requirement .venv/requirements-without-torch.txt")
    assert (folder / ".venv/requirements-without-torch.txt").read_text() == PIN


def test_a_system_without_torch_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TORCH=system without a PyTorch to take ends in one message before anything is made."""
    monkeypatch.setattr(install, "BASE", fake(folder / "python", "exit 1"))
    with pytest.raises(install.Problem, match="has no PyTorch"):
        install.main(Path("requirements.txt"), "system", "")
    assert not (folder / ".venv").exists()


def test_a_build_of_torch_that_cannot_exist_is_refused(folder: Path) -> None:
    """A misspelt TORCH ends in one message before anything is made."""
    done = set_up("--torch", "gpu")
    assert done.stderr.startswith("error: TORCH=gpu: it must be system, or a folder of https://download.pytorch.org/whl")
    assert not (folder / ".venv").exists()


def test_progress_is_shown_without_a_terminal_too() -> None:
    """Of pip's lines every 25th package, large downloads and the last step are shown in a log; on a terminal every one."""
    lines = [f"Collecting package{n}==1 (from -r requirements.txt (line {n}))\n" for n in range(30)]
    lines += ["  Downloading torch-2.13.0-cp312-manylinux.whl (526.6 MB)\n", "Installing collected packages: a, b\n", "other\n"]
    shown = list(install.progress(lines, 31))
    assert len(shown) == 32
    assert [line for line, matters in shown if matters] == [
        "  25 of 31 packages: package24==1",
        "  30 of 31 packages: torch, 526.6 MB",
        "all packages are here; now they are unpacked, a minute or two",
    ]


def test_it_needs_nothing_that_is_not_installed_yet() -> None:
    """The script imports the standard library only."""
    tree = ast.parse((ROOT / "tools/install.py").read_text(encoding="utf-8"))
    names = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    names |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert {str(name).split(".")[0] for name in names} <= sys.stdlib_module_names


def test_make_hands_its_variables_on() -> None:
    """`make setup TORCH=cpu UV=` reaches the script."""
    words = ["make", "--dry-run", "--always-make", "setup", "TORCH=cpu", "UV=", "PYTHON=python3.12"]
    said = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert 'python3.12 tools/install.py requirements.txt --torch "cpu" --uv ""' in said
