"""The reference: a whole tiny project that ran undisturbed, which disturbed copies of it must equal in the end.

It ran with what an attacker or an accident would bring: secrets in the environment, prompts that look like paths, a
folder whose name needs quotes, a terminal that has ASCII only. Its copies run in plain places.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from project import Project

STAGES = ("download", "tokenize", "train", "evaluate", "generate", "track")
WORD = "correct-horse-battery-staple"  # what must never be found in a run
SECRETS = {
    name: f"{WORD}-{place}"
    for place, name in enumerate(
        ("AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "OPENAI_API_KEY", "MLFLOW_TRACKING_PASSWORD", "GITHUB_TOKEN", "DB_PASSWORD")
    )
}
PROMPTS = ["../../../etc/passwd", "/tmp/owned", "a\0b\nc\r\x1b[2J", "$(touch owned); `touch owned`", "CON:|?*<>\"'", "🐉" * 300]
QUIET = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}  # what DVC does is told at once
NARROW = {"LC_ALL": "C", "PYTHONIOENCODING": "ascii"}
ODD = "mein Ördner 'für' 物語 & more"
PATIENCE = 300  # seconds that a struck process may take to end


@dataclass(frozen=True)
class Reference:
    """The project, and what is known about its undisturbed run."""

    project: Project
    seconds: dict[str, float]  # how long DVC was at each stage
    said: str

    @property
    def folder(self) -> Path:
        """Where it is."""
        return self.project.folder

    def copy(self, folder: Path, without: str | None = None) -> Project:
        """A copy of the finished project; `without` a stage: its outputs and everything that DVC knows of it are gone."""
        shutil.copytree(self.folder, folder, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        copy = Project(folder, SECRETS | QUIET)
        if without:
            forget(folder, without)
        return copy

    def copy_data(self, folder: Path) -> Path:
        """A folder with the params and data alone, for stages run by hand."""
        shutil.copytree(self.folder / "data", folder / "data")
        shutil.copyfile(self.folder / "params.yaml", folder / "params.yaml")
        return folder

    def differences(self, project: Project) -> list[str]:
        """What in dvc.lock and data/ is not as it was here, byte for byte."""
        names = ["dvc.lock", *(path.relative_to(self.folder).as_posix() for path in outputs(self.folder))]
        others = [path.relative_to(project.folder).as_posix() for path in outputs(project.folder)]
        differ = [name for name in names if not same(self.folder / name, project.folder / name)]
        return differ + sorted(set(others) - set(names))


def forget(folder: Path, stage: str) -> None:
    """Blank a stage's entry in dvc.lock and delete its outputs and all of DVC's run cache, as if it had never run."""
    shutil.rmtree(folder / ".dvc" / "cache" / "runs", ignore_errors=True)
    lock = folder / "dvc.lock"
    state: dict[str, Any] = yaml.safe_load(lock.read_text(encoding="utf-8"))
    state["stages"][stage] = {"cmd": "never ran"}
    lock.write_text(yaml.safe_dump(state, sort_keys=False), encoding="utf-8")
    shutil.rmtree(folder / "data" / stage, ignore_errors=True)


def outputs(folder: Path) -> list[Path]:
    """All files in data/, but DVC's own .gitignore files and `track`'s summary, which is away while a run is open."""
    return [
        path
        for path in sorted((folder / "data").rglob("*"))
        if path.is_file() and path.name != ".gitignore" and path.parent.name != "track"
    ]


def same(one: Path, other: Path) -> bool:
    """Whether both files are there with the same bytes."""
    return one.is_file() and other.is_file() and one.read_bytes() == other.read_bytes()


def starts_stage(running: subprocess.Popen[str], stage: str) -> bool:
    """Read what DVC says until it starts the stage; False if it ends before."""
    assert running.stdout is not None
    return any(line.startswith(f"Running stage '{stage}'") for line in running.stdout)


def at_once(tasks: Sequence[Callable[[], object]], count: Callable[[str, object], None]) -> None:
    """Do all tasks, as many at once as there are cores, and count each as a case of its own (`count` = `record_property`)."""
    failures = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for future in [pool.submit(task) for task in tasks]:
            if error := future.exception():
                failures.append(error)
    count("cases", len(tasks))
    count("passed", len(tasks) - len(failures))
    if failures:
        raise BaseExceptionGroup(f"{len(failures)} of {len(tasks)} cases failed", failures)


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    """The project, its pipeline run once, the result committed."""
    project = Project.copy(tmp_path_factory.mktemp("reference") / ODD, prompt=PROMPTS, num_samples=1)
    project.env |= SECRETS | QUIET | NARROW
    running = project.start("repro")
    assert running.stdout is not None
    begun, said = {}, ""
    for line in running.stdout:
        said += line
        if line.startswith("Running stage "):
            begun[line.split("'")[1]] = time.monotonic()
    assert running.wait() == 0, said
    project.commit()
    assert tuple(begun) == STAGES, said
    ends = [*list(begun.values())[1:], time.monotonic()]
    return Reference(project, {stage: end - begun[stage] for stage, end in zip(STAGES, ends, strict=True)}, said)
