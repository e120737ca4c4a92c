"""MLFLOW_TRACKING_URI: what it may be, from which folder it counts, and what is said of one that names no store."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from stages.common.errors import UserError
from stages.tracking import store

pytestmark = pytest.mark.kind("MLflow store out of order")


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A temporary copy of the project, as an experiment of a queue has, below the main checkout."""
    copy = tmp_path / "main" / ".dvc" / "tmp" / "exps" / "one"
    (copy / ".dvc").mkdir(parents=True)
    monkeypatch.chdir(copy)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "main"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.mark.parametrize(
    ("uri", "place"),
    [
        (None, "sqlite:///{main}/mlflow.db"),
        ("  ", "sqlite:///{main}/mlflow.db"),
        ("sqlite:///runs.db", "sqlite:///{main}/runs.db"),
        ("sqlite:///./a/runs.db", "sqlite:///{main}/a/runs.db"),
        ("sqlite:////abs/runs.db", "sqlite:////abs/runs.db"),
        ("sqlite:///~/runs.db", "sqlite:///{home}/runs.db"),
        ("sqlite:////a%20b/runs.db", "sqlite:////a b/runs.db"),
        ("fs", "file://{main}/fs"),
        ("./fs", "file://{main}/fs"),
        ("file:fs", "file://{main}/fs"),
        ("file:./fs", "file://{main}/fs"),
        ("file:///abs/fs", "file:///abs/fs"),
        ("/abs/fs", "file:///abs/fs"),
        ("~/fs", "file://{home}/fs"),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("https://user:word@example.org/mlflow/", "https://user:word@example.org/mlflow/"),
        ("postgresql+psycopg://me@host/runs", "postgresql+psycopg://me@host/runs"),
        ("databricks", "databricks"),
        ("databricks://profile", "databricks://profile"),
    ],
)
def test_a_relative_address_counts_from_the_main_checkout(
    uri: str | None, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative place counts from the main checkout, `~` is the home, a server is taken as it is."""
    if uri is not None:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert store.store_uri() == place.format(main=tmp_path / "main", home=tmp_path / "home")


@pytest.mark.parametrize(
    "uri",
    ["localhost:5000", "runs.db", "./mlruns", "sqlite:runs.db", "s3://bucket/runs", "htp://me:secret-word@host", "http://["],
)
def test_an_address_of_no_store_is_one_message(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has the address without its password, MLflow's own words and what to do; nothing is made."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(UserError, match="Nothing else is lost: `dvc repro`") as refused:
        store.as_user_error(store.connect)
    text = str(refused.value)
    shown = "that MLFLOW_TRACKING_URI names" if uri == "http://[" else uri.replace("me:secret-word@", "")
    assert text.startswith(f"MLflow: the store {shown} ") or uri in ("runs.db", "./mlruns")
    assert "unset MLFLOW_TRACKING_URI" in text and "\n" not in text
    assert "secret-word" not in text
    assert {path.name for path in store.session.project_root().iterdir()} == {".dvc"}


@pytest.mark.parametrize(
    ("password", "shown"),
    [
        ("ab/SECRET", "postgresql+psycopg://127.0.0.1:1/runs"),
        ("ab%40SECRET", "postgresql+psycopg://127.0.0.1:1/runs"),
        ("ab@SECRET", "that MLFLOW_TRACKING_URI names"),
    ],
)
def test_a_database_that_refuses_says_so_at_once(password: str, shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is tried once, where MLflow would try for two minutes; whatever signs the password has, it is not shown."""
    pytest.importorskip("psycopg")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"postgresql+psycopg://someone:{password}@127.0.0.1:1/runs")
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail("another try"))
    with pytest.raises(UserError, match="returned an error .*Nothing else is lost") as refused:
        store.as_user_error(store.connect)
    text = str(refused.value)
    assert text.startswith(f"MLflow: the store {shown} ")
    assert "SECRET" not in text and "someone" not in text


def test_a_limit_of_mlflow_is_not_the_store_s_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is told to move a store away that is in order."""
    from mlflow.exceptions import MlflowException

    error = MlflowException.invalid_parameter_value("'source' exceeds the maximum length of 65535 characters")
    said = store.explain(error)
    assert "'source' exceeds the maximum length" in said and "in order" in said
    assert "move the file away" not in said and "returned an error" not in said


@pytest.mark.parametrize("uri", ["sqlite://", "sqlite:///", "sqlite:///:memory:"])
def test_a_store_in_memory_is_refused(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its runs would be lost."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(UserError, match="names no file"):
        store.connect()


def test_whose_store_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database in the checkout is the checkout's own; one elsewhere, or a server, may be others' too."""
    assert store.is_of_this_checkout()
    for uri in (f"sqlite:///{tmp_path}/shared.db", f"sqlite:///{tmp_path}/main-2/mlflow.db", "http://127.0.0.1:5000"):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        assert not store.is_of_this_checkout()
