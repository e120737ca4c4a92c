"""MLFLOW_TRACKING_URI: what it may be, from which folder it counts, and what is said of one that names no store."""

from __future__ import annotations

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
def test_places(uri: str | None, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative place counts from the main checkout, `~` is the home, a server is taken as it is."""
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    if uri is not None:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert store.store_uri() == place.format(main=tmp_path / "main", home=tmp_path / "home")


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("localhost:5000", "has no scheme. Write http://localhost:5000."),
        ("example.org:80/mlflow", "has no scheme. Write http://example.org:80/mlflow."),
        ("127.0.0.1:5000", "has no scheme. Write http://127.0.0.1:5000."),
        ("runs.db", "has no scheme. Write sqlite:///runs.db."),
        ("/abs/runs.sqlite", "has no scheme. Write sqlite:////abs/runs.sqlite."),
        ("sqlite:///", "names no file. Write sqlite:///mlflow.db."),
        ("sqlite://", "names no file. Write sqlite:///mlflow.db."),
        ("sqlite:///:memory:", "names no file. Write sqlite:///mlflow.db."),
        ("sqlite:runs.db", "names no file. Write sqlite:///mlflow.db."),
        ("./mlruns", "names a folder: MLflow's old file store"),
        ("mlruns", "names a folder: MLflow's old file store"),
        ("file:///tmp/mlruns", "names a folder: MLflow's old file store"),
        ("htp://host:5000", "names no kind of store that MLflow knows (htp)"),
        ("s3://bucket/runs", "names no kind of store that MLflow knows (s3)"),
    ],
)
def test_what_names_no_store(uri: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each mistake has a sentence of its own, that names the variable and gives what to write; never `start the server`."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(UserError) as refused:
        store.connect()
    text = str(refused.value)
    assert text.startswith(f"MLFLOW_TRACKING_URI={uri} ")
    assert said in text
    assert "server" not in text
    assert "Nothing else is lost: `dvc repro`" in text


def test_a_password_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor in what is said of a store that cannot be."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "htp://me:secret-word@host")
    with pytest.raises(UserError) as refused:
        store.store_uri()
    assert "secret-word" not in str(refused.value)


def test_whose_store_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database in the checkout is the checkout's own; one elsewhere, or a server, may be others' too."""
    assert store.is_of_this_checkout()
    for uri in (f"sqlite:///{tmp_path}/shared.db", f"sqlite:///{tmp_path}/main-2/mlflow.db", "http://127.0.0.1:5000"):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        assert not store.is_of_this_checkout()
