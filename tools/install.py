"""Make .venv and install the exact pins of a requirements file, with uv if it is installed, else with pip.

    python3 tools/install.py requirements.txt [--torch cpu] [--uv PATH]      (make setup, make setup TORCH=cpu)

With `--torch system`, .venv sees the packages of the Python that makes it and takes PyTorch from there, as it is on Colab or a
cluster; all other pins go into .venv, so that nothing outside of it changes. The same command continues after an
interruption. This script uses the standard library only, because nothing else is there yet.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

VENV = Path(".venv")
LOG = VENV / "install.log"  # what pip printed
OLDEST, THIS = (3, 11), tuple(sys.version_info[:2])  # Python's version
SYSTEM = "system"  # PyTorch is the one that is installed already
WHEELS = "https://download.pytorch.org/whl"  # PyTorch's builds: a folder for each kind, such as cpu, cu130, rocm6.4
CPU_GB, CUDA_GB = 2, 7  # disk that .venv takes, without CUDA's libraries and with them
EVERY = 25  # packages between two lines of progress where the output is no terminal
LARGE = 100  # MB of a download that gets a line of its own there
BASE = (
    Path(sys.base_prefix) / "bin" / f"python{THIS[0]}.{THIS[1]}"
)  # also when this script runs in the .venv that it makes again
NO_VENV = f"""{BASE} cannot make virtual environments: Debian and Ubuntu have a package of its own for that. Type

  sudo apt install python3-venv        (for a Python that is not the system's: python{THIS[0]}.{THIS[1]}-venv)

and then the same command again"""


class Problem(Exception):
    """Something that the user has to change; shown without a traceback."""


def main(requirements: Path, torch: str, uv: str) -> None:
    """Check everything first, say what will be installed, then do it."""
    if THIS < OLDEST:
        raise Problem(f"Python 3.11 or newer is needed, this is {sys.version.split()[0]}. Name another: PYTHON=python3.12")
    if torch and not re.fullmatch(rf"{SYSTEM}|cpu|xpu|(cu|rocm)[\d.]+", torch):
        raise Problem(f"TORCH={torch}: it must be {SYSTEM}, or a folder of {WHEELS}, such as cpu, cu130 or rocm6.4")
    if torch == SYSTEM and subprocess.run([str(BASE), "-c", "import torch"], capture_output=True, check=False).returncode:
        raise Problem(f"TORCH={SYSTEM}: {BASE} has no PyTorch that can be imported. Omit TORCH, and PyTorch is installed")
    pins = read_pins(requirements)
    python = VENV / "bin" / "python"
    whole = works(python, uv)
    if not whole:
        check_place(needs_pip=not uv and torch != SYSTEM)
    announce(len(pins), torch, uv, fresh=not whole)
    if whole:
        forget_damaged(python)
    else:
        make_venv(uv, torch == SYSTEM)
    install = [uv, "pip", "install", "--python", str(python)] if uv else [str(python), "-m", "pip", "install"]
    run = with_uv if uv else with_pip
    if torch == SYSTEM:
        others = VENV / "requirements-without-torch.txt"
        others.write_text("\n".join(pin for pin in pins if not pin.startswith("torch==")), encoding="utf-8")
        install, requirements = [*install, "--no-deps"], others  # the pins are complete: nothing else is needed
    elif torch:
        run([*install, "--no-deps", "--index-url", f"{WHEELS}/{torch}", *(pin for pin in pins if pin.startswith("torch=="))], 1)
    run([*install, "--requirement", str(requirements)], len(pins))


def read_pins(requirements: Path) -> list[str]:
    """The pins in the file and in those that it includes with -r."""
    pins = []
    for line in requirements.read_text(encoding="utf-8").splitlines():
        if line.startswith("-r "):
            pins += read_pins(requirements.parent / line[3:].strip())
        elif "==" in line and not line.startswith("#"):
            pins.append(line.strip())
    return pins


def works(python: Path, uv: str) -> bool:
    """Whether .venv's Python starts, is new enough and has pip: what an interrupted `python -m venv` leaves does not."""
    tests = [["-c", f"import sys; sys.exit(sys.version_info < {OLDEST})"], *([] if uv else [["-m", "pip", "--version"]])]
    try:
        return all(subprocess.run([str(python), *test], capture_output=True, check=False).returncode == 0 for test in tests)
    except OSError:
        return False


def check_place(needs_pip: bool) -> None:
    """Check that .venv can be made here.

    Raises:
        Problem: this Python lacks the module for it, or something else has the name.
    """
    if needs_pip and not all(importlib.util.find_spec(name) for name in ("venv", "ensurepip")):
        raise Problem(NO_VENV)
    half_made = VENV.is_dir() and not VENV.is_symlink() and ((VENV / "pyvenv.cfg").exists() or not any(VENV.iterdir()))
    if (VENV.exists() or VENV.is_symlink()) and not half_made:
        raise Problem(f"{VENV} is in the way: it is not a virtual environment that works. Move it away and type the same again")


def announce(count: int, torch: str, uv: str, fresh: bool) -> None:
    """Say what will be installed, how much disk it takes and how long.

    Raises:
        Problem: there is too little room for a fresh .venv.
    """
    cuda = sys.platform == "linux" and (torch.startswith("cu") or not torch)
    free = shutil.disk_usage(".").free / 1e9
    how = (
        f"some minutes, up to {CUDA_GB if cuda else CPU_GB} GB of disk ({free:.0f} GB are free)" if fresh else "what is missing"
    )
    print(f"Installing {count} packages into {VENV} with {uv or 'pip'}: {how}")
    if fresh and cuda and not torch and not Path("/proc/driver/nvidia").exists():
        print(f"Without an NVIDIA GPU, PyTorch's CPU build is enough, and takes {CPU_GB} GB: make repro TORCH=cpu")
    if fresh and free < CPU_GB:
        raise Problem(f"only {free:.1f} GB of disk are free here. Make room and type the same command again")
    sys.stdout.flush()


def make_venv(uv: str, system: bool) -> None:
    """Make .venv with pip in it; if that fails, leave nothing. With `system`, it sees the packages, and pip, of this Python.

    Raises:
        Problem: the program that makes it failed; its own message is above.
    """
    if VENV.exists():
        print(f"{VENV} is incomplete, as an interrupted installation leaves it: it is made again")
        shutil.rmtree(VENV)
    seen = ["--system-site-packages"] if system else ["--seed"] if uv else []
    words = [uv, "venv", "--quiet", *seen, "--python", str(BASE)] if uv else [str(BASE), "-m", "venv", *seen]
    words += [str(VENV)] if uv or not system else ["--without-pip", str(VENV)]
    failed = True
    try:
        failed = subprocess.run(words, check=False).returncode != 0
    finally:
        if failed:
            shutil.rmtree(VENV, ignore_errors=True)
    if failed:
        raise Problem(f"`{' '.join(words)}` failed; see above")


def forget_damaged(python: Path) -> None:
    """Remove the record of each package that has lost files, so that it is installed again."""
    for site in (python.parent.parent / "lib").glob("python*/site-packages"):
        for info in site.glob("*.dist-info"):
            if not is_whole(info):
                print(f"{info.name.removesuffix('.dist-info')} is incomplete: it is installed again")
                shutil.rmtree(info)


def is_whole(info: Path) -> bool:
    """Whether a package's list of files is there, and every file in it but compiled ones, which Python makes again."""
    try:
        with open(info / "RECORD", encoding="utf-8", newline="") as file:
            names = [row[0] for row in csv.reader(file) if row]
    except OSError:
        return False
    return bool(names) and all((info.parent / name).exists() for name in names if not name.endswith(".pyc"))


def with_uv(words: list[str], count: int) -> None:
    """Run uv, which shows its own progress.

    Raises:
        Problem: it failed.
    """
    if subprocess.run(words, check=False).returncode:
        raise Problem("uv could not install the packages; see above. To use pip instead, add UV= to the command")


def with_pip(words: list[str], count: int) -> None:
    """Run pip, and show one line of progress instead of its many.

    Raises:
        Problem: it failed; the end of what it printed is in the message.
    """
    words = [*words, "--disable-pip-version-check", "--no-input", "--progress-bar", "off"]
    said = []
    with (
        open(LOG, "w", encoding="utf-8") as log,
        subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8", errors="replace"
        ) as pip,
    ):

        def lines() -> Iterator[str]:
            for line in pip.stdout or ():
                log.write(line)
                said.append(line.rstrip())
                yield line

        show(progress(lines(), count))
    if pip.returncode:
        raise Problem("\n  ".join(["pip could not install the packages:", *said[-8:]]) + f"\nAll that it printed: {LOG}")


def progress(lines: Iterable[str], count: int) -> Iterator[tuple[str, bool]]:
    """What is worth showing of pip's lines, and whether also where the output is no terminal."""
    seen = 0
    for line in lines:
        if found := re.match(r"(?:Collecting |Requirement already satisfied: |Processing (?:\S*/)?)([^\s(]+)", line):
            seen += 1
            yield f"{min(seen, count):4} of {count} packages: {found[1]}", seen % EVERY == 0
        elif found := re.match(r"\s*Downloading (\S+?)-\d\S* \(([\d.]+) (MB|GB)\)", line):
            large = found[3] == "GB" or float(found[2]) >= LARGE
            yield f"{min(seen, count):4} of {count} packages: {found[1]}, {found[2]} {found[3]}", large
        elif line.startswith("Installing collected packages"):
            yield "all packages are here; now they are unpacked, a minute or two", True


def show(lines: Iterable[tuple[str, bool]]) -> None:
    """On a terminal show each line in place of the last; elsewhere only those that matter, below each other."""
    terminal, width = sys.stdout.isatty(), shutil.get_terminal_size().columns - 1
    for line, matters in lines:
        if terminal:
            print(f"\r{line[:width]:{width}}", end="", flush=True)
        elif matters:
            print(line, flush=True)
    if terminal:
        print(f"\r{'':{width}}\r", end="", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("requirements", type=Path)
    parser.add_argument("--torch", default="", help=f"a build of PyTorch: a folder of {WHEELS} (default: PyPI's)")
    parser.add_argument("--uv", default="", help="the program uv (default: pip is used)")
    args = parser.parse_args()
    try:
        main(args.requirements, args.torch, args.uv)
    except Problem as problem:
        sys.exit(f"error: {problem}")
    except KeyboardInterrupt:
        sys.exit("\ninterrupted: the same command continues")
