"""For the whole suite: which tests come first, and the projects that many tests begin with."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from project import EXPERIMENT, Project
from shared import made_once
from stage_runs import call_stage, write_params

from stages.tracking.git import WANTED

EPOCHS = 4  # of the finished project: a second or so
SAMPLED = {"MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL": "0.5"}  # seconds; these trainings are over before the default's 5
pytest_plugins = ["table", "reference"]
for _name in [name for name in os.environ if name.startswith("GIT_") and name not in WANTED]:
    del os.environ[_name]  # of a hook that runs the tests: they would commit to the user's own repository
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # the workers share the cores already
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs, and what they start, would ignore Ctrl-C


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first: the quick ones then fill the gap until all workers are done.

    Each file has one worker (`--dist loadfile`), because its tests share a project. Not `loadgroup`: pytest-xdist 3.8 takes no
    notice of the groups with pytest 9.2.
    """
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(autouse=True)
def own_environment() -> Iterator[None]:
    """What a test, or code that it calls, does to the environment ends with the test."""
    before = dict(os.environ)
    yield
    now = os.environ.get("PYTEST_CURRENT_TEST", "")
    os.environ.clear()
    os.environ.update(before | {"PYTEST_CURRENT_TEST": now})


@pytest.fixture
def one_thread() -> Iterator[None]:
    """PyTorch computes with one thread: the bits depend on their number."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def tokenized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project folder with params.yaml, data/download and data/tokenize of the tiny pipeline. Copy it; don't write in it."""

    def make(folder: Path) -> None:
        write_params(folder, {})
        for stage in ("download", "tokenize"):
            done = call_stage(folder, stage)
            assert done.returncode == 0, done.stderr

    return made_once(tmp_path_factory, "tokenized", make)


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with MLflow's tables, which take it seconds to make. Copy it."""

    def make(folder: Path) -> None:
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        SqlAlchemyStore(f"sqlite:///{folder}/mlflow.db", str(folder / "mlruns"))

    return made_once(tmp_path_factory, "empty_store", make) / "mlflow.db"


@pytest.fixture
def own_store(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The test's folder as the main checkout, with an empty store of its own."""
    shutil.copyfile(empty_store, tmp_path / "mlflow.db")
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A tiny project in which a user has typed `make repro` and committed the result. Duplicate it; don't write in it.

    Nothing is installed: the packages are those that the tests run with. Its training is long enough to be caught half way.
    """

    def make(folder: Path) -> None:
        project = Project.copy(folder / "project", epochs=EPOCHS)
        (project.folder / ".venv").mkdir()
        for name in (".ready", ".ready-dev"):  # newer than the requirements: make has nothing to install
            (project.folder / ".venv" / name).touch()
        words, env = ["make", "repro"], project.environment() | SAMPLED
        done = subprocess.run(words, cwd=project.folder, env=env, capture_output=True, text=True, check=False)
        (folder / "said").write_text(done.stdout + done.stderr, encoding="utf-8")
        assert done.returncode == 0, done.stdout + done.stderr
        project.commit()

    folder = made_once(tmp_path_factory, "finished", make)
    return Project(folder / "project", dict(SAMPLED), (folder / "said").read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def experimented(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The finished project after `dvc exp run -n stories-30 -S max_samples=30`. Duplicate it; don't write in it."""

    def make(folder: Path) -> None:
        finished.duplicate(folder / "project").dvc("exp", "run", "-n", EXPERIMENT, "-S", "max_samples=30")

    folder = made_once(tmp_path_factory, "experimented", make)
    return Project(folder / "project", dict(finished.env), finished.said)
