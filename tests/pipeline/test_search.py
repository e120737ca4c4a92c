"""A search: every trial is a complete experiment, here and on a cluster of two nodes, whatever is killed meanwhile."""

from __future__ import annotations

import importlib.util
import os
import secrets
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil
import pytest
import servers
from project import LoggedRun, Project, assert_complete, runs_stage, wait_for
from repository import git

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),  # seconds: real pipelines, perhaps on a busy machine
    pytest.mark.kind("searches: failed, killed and equal trials"),
    pytest.mark.skipif(
        any(importlib.util.find_spec(name) is None for name in ("ray", "optuna", "plotly")),
        reason="Ray is not installed (`make search` installs it)",
    ),
]
CONFIG = "[core]\n    remote = shared\n['remote \"shared\"']\n    url = {}\n"


def search(project: Project, *words: str, ok: bool = True) -> str:
    """Search in the project, and return what is said."""
    return project.python("-m", "tools.search", *words, ok=ok)


def trials(project: Project, name: str, uri: str | None = None) -> dict[str, LoggedRun]:
    """The runs that one filter of MLflow shows for a search, by name; no name twice."""
    found = [run for run in project.runs(uri) if run.tags.get("search.name") == name]
    assert len({run.name for run in found}) == len(found)
    return {run.name: run for run in found}


def experiments(folder: Path) -> set[str]:
    """The names of a repository's DVC experiments."""
    return {line.rpartition("/")[2] for line in git(folder, "for-each-ref", "--format=%(refname)", "refs/exps").splitlines()}


@pytest.mark.readme("make search")
def test_on_this_machine(finished: Project, tmp_path: Path) -> None:
    """A point that is the current one, another one, and two that the stages refuse: two complete runs, two experiments.

    What fails is said in one line, and the search continues, also when it is started again for more trials. A change that is
    not committed is part of each experiment. Nothing is left of the clones.
    """
    project = finished.duplicate(tmp_path / "project")
    path = project.folder / "stages" / "generation" / "sampler.py"
    path.write_text(path.read_text(encoding="utf-8") + "# a change\n", encoding="utf-8")
    words = ["-S", "temperature=choice(1.0, 0.7)", "-S", "n_head=choice(2, 3)", "--sampler", "grid", "--metric", "mean_tokens"]
    (project.folder / ".venv" / ".ready-search").touch()  # installed already
    command = ["make", "search", f"ARGS={shlex.join(['-n', 'warm', '--trials', '2', *words])}"]
    done = subprocess.run(command, cwd=project.folder, env=project.environment(), capture_output=True, text=True)
    first = done.stdout + done.stderr
    assert done.returncode == 0, first
    assert "n_head: 3 does not divide n_embd (16); take a divisor" in first
    said = search(project, "-n", "warm", "--trials", "9")
    assert "4 trials, 2 of them done" in said, "the grid has no more"
    assert "-S 'temperature=1.0' -S 'n_head=2'" in said or "-S 'temperature=0.7' -S 'n_head=2'" in said
    runs = trials(project, "warm")
    assert set(runs) == {"warm", "warm-0", "warm-2"}
    assert experiments(project.folder) == {"warm-0", "warm-2"}
    for name in ("warm-0", "warm-2"):
        assert_complete(runs[name], project)
        assert (runs[name].tags["search.trial"], runs[name].tags["git.dirty"]) == (name[-1], "yes")
        assert runs[name].tags["mlflow.parentRunId"] == runs["warm"].id
    assert {runs[name].params["temperature"] for name in ("warm-0", "warm-2")} == {"1.0", "0.7"}
    page = runs["warm"].text("warm.html", tmp_path)
    assert "warm-2" in page and page.count("<h2>") == 3 and "plotly.js v" in page
    assert "<script src" not in page, "it works offline"
    assert {entry.suffix for entry in (project.folder / ".dvc" / "tmp" / "search").iterdir()} <= {".log", ".lock"}
    assert "began with" in search(project, "-n", "warm", "--trials", "9", "-S", "seed=1,2", ok=False)
    project.dvc("exp", "apply", "warm-2")
    assert "temperature: 0.7" in (project.folder / "params.yaml").read_text(encoding="utf-8")


@contextmanager
def cluster(folder: Path) -> Iterator[dict[str, str]]:
    """A Ray cluster of two nodes with one core each, and an MLflow server: what a search's environment needs."""
    (folder / "files").mkdir()
    (folder / "tmp").mkdir()
    port = servers.free_port()
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_USAGE_STATS_ENABLED": "0"}
    short = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # it holds sockets
    environment = {**os.environ, **token, "TMPDIR": str(folder / "tmp"), "RAY_TMPDIR": short, "OMP_NUM_THREADS": "1"}
    ray = [sys.executable, "-m", "ray.scripts.scripts"]

    def nodes(count: int) -> bool:
        ask = f"import ray; ray.init('127.0.0.1:{port}', log_to_driver=False); assert len(ray.nodes()) == {count}"
        return subprocess.run([sys.executable, "-c", ask], env=environment, capture_output=True).returncode == 0

    one = [*ray, "start", "--head", "--port", str(port), "--include-dashboard=false"]
    two = [*ray, "start", "--address", f"127.0.0.1:{port}"]
    common = ["--num-cpus", "1", "--node-ip-address", "127.0.0.1", "--block"]
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, short, ignore_errors=True)
        uri, _ = stack.enter_context(servers.mlflow_server(f"sqlite:///{folder}/runs.db", folder / "files"))
        for count, words in enumerate((one, two), 1):
            ready = lambda count=count: nodes(count)  # noqa: E731
            stack.enter_context(servers.running([*words, *common], ready, folder / f"ray-{count}.log", env=environment))
        yield {**token, "MLFLOW_TRACKING_URI": uri, "ADDRESS": f"127.0.0.1:{port}"}


def test_on_a_cluster_of_two_nodes(finished: Project, tmp_path: Path) -> None:
    """The nodes have nothing but the git remote, the DVC remote and the MLflow server; what is missing is named at once.

    Ray's worker of one trial is killed, then the search itself: the same command continues it. Each trial is one complete run
    and one experiment, which `dvc exp pull` brings here whole.
    """
    project = finished.duplicate(tmp_path / "project")
    subprocess.run(["git", "clone", "-q", "--bare", str(project.folder), str(tmp_path / "origin.git")], check=True)
    git(project.folder, "remote", "add", "origin", str(tmp_path / "origin.git"))
    words = ["-n", "seeds", "--trials", "2", "-S", "seed=1,2", "--sampler", "grid"]
    with cluster(tmp_path) as environment:
        words += ["--address", environment.pop("ADDRESS")]
        said = search(project, *words, ok=False)
        assert "set MLFLOW_TRACKING_URI" in said and "dvc remote add" in said
        project.env |= environment
        (tmp_path / "store").mkdir()
        (project.folder / ".dvc" / "config.local").write_text(CONFIG.format(tmp_path / "store"), encoding="utf-8")
        command = [sys.executable, "-m", "tools.search", *words]
        log = (tmp_path / "search.log").open("w")
        head = subprocess.Popen(command, cwd=project.folder, env=project.environment(), stdout=log, stderr=log)
        wait_for(lambda: training(tmp_path) or head.poll() is not None, pause=0.2)
        worker(environment["RAY_AUTH_TOKEN"]).kill()
        before = training(tmp_path)
        wait_for(lambda: training(tmp_path) != before or head.poll() is not None, pause=0.2)
        assert head.poll() is None, (tmp_path / "search.log").read_text()
        head.send_signal(signal.SIGKILL)
        head.wait()
        said = search(project, *words)
        uri = environment["MLFLOW_TRACKING_URI"]
        runs = trials(project, "seeds", uri)
        assert set(runs) == {"seeds", "seeds-0", "seeds-1"}
        assert experiments(tmp_path / "origin.git") == {"seeds-0", "seeds-1"}
        for name in ("seeds-0", "seeds-1"):
            assert runs[name].complete and runs[name].status == "FINISHED"
        shutil.rmtree(project.folder / ".dvc" / "cache")
        project.dvc("exp", "pull", "origin", "seeds-1")
        project.dvc("exp", "apply", "seeds-1")
        assert (project.folder / "data" / "train" / "model" / "model.safetensors").is_file()
    assert environment["RAY_AUTH_TOKEN"] not in said + (tmp_path / "search.log").read_text()


def training(folder: Path) -> set[int]:
    """The processes of the stage `train` in a clone below the folder."""
    found = set()
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if runs_stage(process, "train") and Path(process.cwd()).is_relative_to(folder / "tmp"):
                found.add(process.pid)
    return found


def worker(token: str) -> psutil.Process:
    """The process in which this cluster of Ray runs a trial."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.cmdline()[:1] == ["ray::run"] and process.environ().get("RAY_AUTH_TOKEN") == token:
                return process
    raise AssertionError("no trial runs")
