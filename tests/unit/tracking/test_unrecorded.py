"""Experiments of DVC and their runs: renamed ones, values that are the same, texts that are too long. Real git, real MLflow."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from stages.common.params import write_yaml
from stages.tracking import provenance, store, unrecorded
from stages.tracking.run import COMPLETE, OUTPUTS, PARAM_LENGTH, Run, same_params, shorten

pytestmark = pytest.mark.kind("sweeps, deleted runs, deleted store")
LOCK = "stages:\n  train:\n    outs:\n    - path: data/train/model\n      md5: abc\n"
PARAMS: dict[str, Any] = {"dropout": 0, "prompt": "Once", "top_k": None, "causal": True}


@pytest.fixture(autouse=True)
def project(own_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A git repository with a store of runs."""
    monkeypatch.chdir(own_store)
    git("init", "-q")


def git(*words: str, date: float | None = None) -> str:
    env = os.environ | {"GIT_COMMITTER_DATE": f"{int(date or time.time())} +0000"}
    identity = ("-c", "user.name=t", "-c", "user.email=t@t")
    return subprocess.run(["git", *identity, *words], capture_output=True, text=True, check=True, env=env).stdout.strip()


def experiment(name: str, params: dict[str, Any], date: float | None = None) -> None:
    """What DVC keeps of an experiment."""
    Path("params.yaml").write_text(write_yaml(params))
    Path("dvc.lock").write_text(LOCK)
    git("add", "params.yaml", "dvc.lock")
    git("commit", "-q", "--allow-empty", "-m", name, date=date)
    git("update-ref", f"refs/exps/ab/cdef/{name}", "HEAD")


def run(name: str, params: dict[str, Any], by: str = "") -> str:
    """A complete run: its id."""
    client, number = store.connect()
    made = Run(client, number, client.create_run(number, run_name=name).info.run_id)
    made.params(params)
    made.tag({OUTPUTS: provenance.checksum(LOCK), "mlflow.source.name": by or f"dvc exp run -n {name}"})
    made.finish("FINISHED")
    made.tag({COMPLETE: "yes"})
    return made.id


def names() -> list[str]:
    """Of all runs."""
    client, number = store.connect()
    return sorted(found.info.run_name for found in store.search_runs(client, number))


def test_a_renamed_experiment_renames_its_run() -> None:
    """`dvc exp rename first better`: one run, of the new name, not a copy; and nothing more at the next look."""
    made = run("first", PARAMS)
    experiment("better", PARAMS)
    assert unrecorded.record() == ["better"]
    assert names() == ["better"]
    client, _ = store.connect()
    assert client.get_run(made).data.tags["mlflow.source.name"] == "dvc exp run -n better"
    assert unrecorded.record() == []


def test_a_later_experiment_with_the_same_results_gets_its_own_run() -> None:
    """The first was removed, an hour later another came whole from the cache: both runs stay. So does that of `dvc repro`."""
    run("first", PARAMS)
    run("main-1234567", PARAMS, by="dvc repro")
    experiment("second", PARAMS, date=time.time() + 3600)
    assert unrecorded.record() == ["second"]
    assert names() == ["first", "main-1234567", "second"]
    experiment("third", PARAMS)
    experiment("first", PARAMS)
    assert unrecorded.record() == ["third"], "the run called first has its experiment"
    assert names() == ["first", "main-1234567", "second", "third"]


@pytest.mark.parametrize(
    ("recorded", "value"),
    [({"dropout": 0.0}, {"dropout": 0}), ({"dropout": 1e-05}, {"dropout": 0.00001}), ({"prompt": "é" * 9_000},) * 2],
)
def test_the_same_values_are_the_same_experiment(recorded: dict[str, Any], value: dict[str, Any]) -> None:
    """0 is 0.0; a prompt that is too long for MLflow is cut on both sides, and the run says so."""
    made = run("main-1234567", PARAMS | recorded, by="dvc repro")
    experiment("same", PARAMS | value)
    assert unrecorded.record() == ["same"]
    client, _ = store.connect()
    if "prompt" in recorded:
        assert client.get_run(made).data.params["prompt"].endswith("(cut: MLflow keeps no more; the whole is in params.yaml)")


@pytest.mark.parametrize("other", [{"dropout": 0.1}, {"dropout": False}, {"prompt": "once"}, {"causal": 1}, {"top_k": 0}])
def test_other_values_are_another_experiment(other: dict[str, Any]) -> None:
    """A number, a text, a flag, null: none is taken for another."""
    run("main-1234567", PARAMS, by="dvc repro")
    experiment("other", PARAMS | other)
    assert unrecorded.record() == []


def test_a_text_that_is_too_long_says_that_it_is_cut() -> None:
    """What fits stays; what does not has the full length and says that it is cut."""
    assert shorten("a" * PARAM_LENGTH, PARAM_LENGTH) == "a" * PARAM_LENGTH
    cut = shorten("a" * (PARAM_LENGTH + 1), PARAM_LENGTH)
    assert len(cut) == PARAM_LENGTH and cut.endswith("params.yaml)")
    assert shorten(cut, PARAM_LENGTH) == cut
    assert not same_params({"a": "1"}, {"a": 1, "b": 2})
