"""The reference: a whole tiny project that ran undisturbed, which disturbed copies of it must equal in the end.

It ran with what an attacker or an accident would bring: secrets in the environment, prompts that look like paths.
"""

from __future__ import annotations

import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parents[1] / "pipeline"))
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
QUIET = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


@dataclass(frozen=True)
class Reference:
    """The project, and what is known about its undisturbed run."""

    project: Project
    seconds: dict[str, float]  # how long each stage's process lived
    said: str

    @property
    def folder(self) -> Path:
        """Where it is."""
        return self.project.folder

    def copy(self, folder: Path, without: str | None = None) -> Project:
        """A copy of the finished project; `without` a stage: its outputs and everything that DVC knows of it are gone."""
        shutil.copytree(self.folder, folder, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        copy = Project(folder, dict(self.project.env))
        if without:
            shutil.rmtree(folder / ".dvc" / "cache" / "runs", ignore_errors=True)
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
    """Blank a stage's entry in dvc.lock and delete its outputs, as if it had never run."""
    lock = folder / "dvc.lock"
    state: dict[str, Any] = yaml.safe_load(lock.read_text(encoding="utf-8"))
    state["stages"][stage] = {"cmd": "never ran"}
    lock.write_text(yaml.safe_dump(state, sort_keys=False), encoding="utf-8")
    shutil.rmtree(folder / "data" / stage, ignore_errors=True)


def outputs(folder: Path) -> list[Path]:
    """All files in data/, but DVC's own .gitignore files."""
    return [path for path in sorted((folder / "data").rglob("*")) if path.is_file() and path.name != ".gitignore"]


def same(one: Path, other: Path) -> bool:
    """Whether both files are there with the same bytes."""
    return one.is_file() and other.is_file() and one.read_bytes() == other.read_bytes()


def stage_process(dvc: psutil.Process, stage: str) -> psutil.Process | None:
    """The process of a stage that DVC runs."""
    try:
        for process in dvc.children(recursive=True):
            if f"stages.{stage}" in process.cmdline():
                return process
    except psutil.Error:
        pass
    return None


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    """The project, its pipeline run once, the result committed."""
    project = Project.copy(tmp_path_factory.mktemp("reference") / "project", prompt=PROMPTS, num_samples=1)
    project.env |= SECRETS | QUIET
    first: dict[str, float] = {}
    last: dict[str, float] = {}
    running = project.start("repro")
    log = project.folder.parent / "log.txt"
    while running.poll() is None:
        for stage in STAGES:
            if stage_process(psutil.Process(running.pid), stage):
                first.setdefault(stage, time.monotonic())
                last[stage] = time.monotonic()
        time.sleep(0.05)
    said, _ = running.communicate()
    log.write_text(said, encoding="utf-8")
    assert running.returncode == 0, said
    project.commit()
    assert set(first) == set(STAGES), "each stage was seen running"
    return Reference(project, {stage: last[stage] - first[stage] for stage in STAGES}, said)
