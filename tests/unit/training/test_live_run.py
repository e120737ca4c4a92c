"""Training's wire to MLflow: never an error, never a delay, and the run's end is marked."""

from __future__ import annotations

import io
import shutil
import socket
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from stage_runs import ROOT, run_python

from stages.common.params import Params, load_params
from stages.common.session import LAUNCH
from stages.tracking import live_run_writer, store
from stages.training import live_run

TRAINING = """
import time
from stages.training import live_run
from stages.common.params import Params, load_params

began = time.perf_counter()
with live_run.training_run(load_params(Params).model_dump(), {"device": "cpu"}) as run:
    for step in range(1, 3001):
        run.log(step, {"train_loss": 1 / step, "grad_norm": float("nan")})
    run.samples(3000, ["Once", "upon"])
    print("seconds", time.perf_counter() - began, flush=True)
    %s
print("went on")
"""


def train(folder: Path, store: str, end: str = "pass", script: str = TRAINING, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a stand-in for training, which logs 3,000 points, in `folder`, with its store at this URI."""
    shutil.copy(ROOT / "params.yaml", folder)
    return run_python(["-c", script % end], folder, MLFLOW_TRACKING_URI=store, **env)


def seconds(done: subprocess.CompletedProcess[str]) -> float:
    """How long the logging calls took, all together."""
    return float(done.stdout.split("seconds ")[1].split()[0])


@pytest.mark.parametrize(("logged", "rank"), [(False, "0"), (True, "1")])
def test_without_a_log_no_process_is_started(logged: bool, rank: str, tmp_path: Path) -> None:
    """With `logged` False (`--no-log`), and on all ranks but 0: the same calls, no store, no other process, no word."""
    script = TRAINING.replace('{"device": "cpu"}', f'{{"device": "cpu"}}, logged={logged}')
    assert script != TRAINING
    children = "import psutil; print('children', psutil.Process().children())"
    environment = dict(zip(LAUNCH, (rank, "2", "localhost", "1"), strict=True))
    done = train(tmp_path, f"sqlite:///{tmp_path}/mlflow.db", children, script=script, **environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert "children []" in done.stdout
    assert not (tmp_path / "mlflow.db").exists()


@pytest.mark.slow
def test_a_hanging_server_does_not_hold_training_up(tmp_path: Path) -> None:
    """A server that takes connections and never answers: the logging calls return at once, the end waits within limits."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as server:
        began = time.perf_counter()
        done = train(tmp_path, f"http://127.0.0.1:{server.getsockname()[1]}", MLFLOW_HTTP_REQUEST_TIMEOUT="1")
    assert seconds(done) < 5
    assert time.perf_counter() - began < 60
    assert done.returncode == 0
    assert done.stderr.count("warning") == 1


@pytest.mark.parametrize(("error", "status"), [(ValueError, "FAILED"), (KeyboardInterrupt, "KILLED")])
def test_an_error_is_marked(error: type[BaseException], status: str, own_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run of a training that failed or was interrupted says so, and has what was logged until then."""
    monkeypatch.chdir(own_store)
    shutil.copyfile(ROOT / "params.yaml", "params.yaml")
    pipe = io.StringIO()
    writer = SimpleNamespace(stdin=pipe, communicate=lambda timeout: None, wait=lambda: 0)

    def fails() -> None:
        with live_run.training_run(load_params(Params).model_dump()) as run:
            run.log(1, {"train_loss": 2.0})
            raise error

    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "Popen", lambda *_, **__: writer)
        with pytest.raises(error):
            fails()
    live_run_writer.feed(iter(pipe.getvalue().splitlines()))
    client, experiment = store.connect()
    (found,) = store.search_runs(client, experiment)
    assert (found.info.status, found.data.metrics["curves/train_loss"]) == (status, 2.0)


@pytest.mark.slow
@pytest.mark.parametrize(("end", "status"), [("pass", "FINISHED"), ("import os; os._exit(9)", "KILLED")])
def test_the_end_is_marked(end: str, status: str, tmp_path: Path) -> None:
    """A training that ended well, without `track`, is finished; a killed one's run says so; both have all points."""
    from mlflow import MlflowClient

    uri = f"sqlite:///{tmp_path}/mlflow.db"
    done = train(tmp_path, uri, end)
    assert (done.returncode == 0) is (end == "pass")
    client = MlflowClient(uri)
    for _ in range(300):  # a process killed outright leaves its feeder some work
        (run,) = client.search_runs([client.get_experiment_by_name("gpt2-from-scratch").experiment_id])
        points = client.get_metric_history(run.info.run_id, "curves/train_loss")
        if run.info.status == status and len(points) == 3000:
            break
        time.sleep(0.1)
    assert run.info.status == status
    assert sorted(point.step for point in points) == list(range(1, 3001))
    assert run.data.tags["device"] == "cpu"
    assert [item.path for item in client.list_artifacts(run.info.run_id, "samples")] == [
        "samples/step-0003000.md",
        "samples/while_training.json",
    ]
