"""Paths that MLflow keeps in its database, after the checkout was moved or copied. Real MLflow."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from mlflow.tracking._tracking_service import utils
from repository import digests

from stages.common.errors import UserError
from stages.tracking import store

pytestmark = pytest.mark.kind("checkout moved, copied, or in a larger repository")

ODD = ["with blanks", "before2", "100% #1 a%20b", "物語 & it's?"]
Enter = Callable[[Path], None]


@pytest.fixture
def enter(monkeypatch: pytest.MonkeyPatch, empty_store: Path) -> Enter:
    """Makes a folder the checkout, with an empty database if it is new."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    def into(folder: Path) -> None:
        if not folder.exists():
            folder.mkdir()
            shutil.copyfile(empty_store, folder / "mlflow.db")
        monkeypatch.setenv("DVC_ROOT", str(folder))
        monkeypatch.chdir(folder)
        utils._artifact_repos_cache.clear()  # what MLflow remembers, which in a process of its own would be nothing
        utils._tracking_store_registry._get_store_with_resolved_uri.cache_clear()
        SqlAlchemyStore._engine_map.clear()

    return into


def make_run(text: str) -> str:
    """A run with a file, a model with a file and a registered version: its id."""
    client, experiment = store.connect()
    run = client.create_run(experiment).info
    client.log_text(run.run_id, text, "folder/file.txt")
    model = client.create_logged_model(experiment, "net", source_run_id=run.run_id)
    client.create_registered_model(run.run_id)
    client.create_model_version(run.run_id, f"{run.artifact_uri}/folder", run.run_id, model_id=model.model_id)
    return str(run.run_id)


def read(run: str) -> str:
    """The run's file, through MLflow."""
    client, _ = store.connect()
    return Path(client.download_artifacts(run, "folder/file.txt")).read_text()


def mentions(database: Path, place: str) -> list[str]:
    """Where the database has this text."""
    found = []
    with closing(sqlite3.connect(database)) as known:
        for (table,) in known.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            for row in known.execute(f'SELECT * FROM "{table}"'):
                found += [f"{table}: {row}" for value in row if isinstance(value, str) and place in value]
    return found


@pytest.mark.parametrize("name", ODD)
def test_after_a_move_no_file_is_elsewhere(name: str, tmp_path: Path, enter: Enter, capsys: pytest.CaptureFixture[str]) -> None:
    """After `mv`, old files open again, new ones stay in the checkout, and nothing names the old place; said once."""
    enter(tmp_path / "before")
    old = make_run("old")
    (tmp_path / "before").rename(tmp_path / name)
    enter(tmp_path / name)
    assert read(old) == "old"
    assert read(make_run("new")) == "new"
    assert os.listdir(tmp_path) == [name], "and nothing beside it"
    left = [line for line in mentions(tmp_path / name / "mlflow.db", "/before/") if "/mlruns/0" not in line]
    assert not left
    assert capsys.readouterr().err.count("note: ") == 1


@pytest.mark.parametrize("name", ODD[:2])
def test_a_copied_checkout_works_in_itself(name: str, tmp_path: Path, enter: Enter) -> None:
    """After `cp -a`, the copy works in itself, and the original's store and files stay the same, byte for byte."""
    enter(tmp_path / name)
    old = make_run("old")
    shutil.copytree(tmp_path / name, tmp_path / "copy")
    before = digests(tmp_path / name)
    enter(tmp_path / "copy")
    assert read(old) == "old"
    make_run("new")
    assert digests(tmp_path / name) == before
    shutil.rmtree(tmp_path / name)
    assert read(old) == "old"


def test_a_store_elsewhere_is_left_alone(tmp_path: Path, enter: Enter, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database outside the checkout belongs to others too: its places stay."""
    enter(tmp_path / "one")
    monkeypatch.setenv(
        "MLFLOW_TRACKING_URI", f"sqlite:///{shutil.move(tmp_path / 'one' / 'mlflow.db', tmp_path / 'shared.db')}"
    )
    make_run("old")
    before = mentions(tmp_path / "shared.db", "/one/mlruns")
    enter(tmp_path / "two")
    store.connect()
    assert mentions(tmp_path / "shared.db", "/one/mlruns") == before != []


def test_a_deleted_experiment_says_what_brings_it_back(tmp_path: Path, enter: Enter) -> None:
    """What a user deleted does not come back by itself, and is not joined by new runs: one message has both commands."""
    enter(tmp_path / "checkout")
    run = make_run("one")
    client, experiment = store.connect()
    client.delete_experiment(experiment)
    with pytest.raises(UserError, match=f"mlflow experiments restore --experiment-id {experiment}; .*mlflow gc"):
        store.connect()
    client.restore_experiment(experiment)
    assert store.connect()[1] == experiment
    assert read(run) == "one"


def test_the_runs_table_opens_with_the_results(tmp_path: Path, enter: Enter) -> None:
    """The view that `make ui` opens has a column for each of the main metrics."""
    enter(tmp_path / "here")
    client, experiment = store.connect()
    assert "metrics.`evaluate/perplexity`" in client.get_experiment(experiment).tags[f"mlflow.sharedViewState.{store.VIEW}"]


def test_checkouts_that_share_a_store_keep_their_files_apart(
    enter: Enter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One database for two checkouts: each one's runs have their files in its own mlruns; the other can be deleted."""
    enter(tmp_path / "one")
    shutil.move(tmp_path / "one" / "mlflow.db", tmp_path / "shared.db")
    runs = {}
    for name in ("one", "two", "one"):
        (tmp_path / name).mkdir(exist_ok=True)
        enter(tmp_path / name)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", store.sqlite_uri(tmp_path / "shared.db"))
        runs[name] = make_run(name)
        assert (tmp_path / name / "mlruns" / runs[name] / "artifacts" / "folder" / "file.txt").read_text() == name
    client, experiment = store.connect()
    assert client.get_experiment(experiment).name == store.EXPERIMENT
    assert len(client.search_experiments(filter_string="name LIKE 'gpt2%'")) == 2
    shutil.rmtree(tmp_path / "one")
    enter(tmp_path / "two")
    assert read(runs["two"]) == "two"


def test_a_store_inside_one_of_the_checkouts_that_share_it(
    enter: Enter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The other's runs are not taken for those of a checkout that was moved."""
    enter(tmp_path / "one")
    (tmp_path / "one" / "dvc.yaml").touch()
    (tmp_path / "two").mkdir()
    enter(tmp_path / "two")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.sqlite_uri(tmp_path / "one" / "mlflow.db"))
    other = make_run("two")
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    for _ in range(2):
        enter(tmp_path / "one")
        ours = make_run("one")
    assert read(ours) == "one"
    assert "note" not in capsys.readouterr().err
    enter(tmp_path / "two")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.sqlite_uri(tmp_path / "one" / "mlflow.db"))
    assert read(other) == "two"


def test_a_renamed_experiment_is_still_the_same(tmp_path: Path, enter: Enter) -> None:
    """A new name changes nothing: new runs go into the same experiment, and moving still finds it."""
    enter(tmp_path / "before")
    run = make_run("old")
    client, experiment = store.connect()
    client.rename_experiment(experiment, "my thesis")
    assert store.connect()[1] == experiment
    (tmp_path / "before").rename(tmp_path / "after")
    enter(tmp_path / "after")
    assert read(run) == "old"
    assert len(store.connect()[0].search_experiments()) == 2  # with MLflow's own Default


def test_an_older_store_s_table_gets_today_s_columns(tmp_path: Path, enter: Enter) -> None:
    """The table that `make ui` opens has the metrics under their names of today, also where the experiment is an older one."""
    enter(tmp_path / "here")
    client, experiment = store.connect()
    key = f"mlflow.sharedViewState.{store.VIEW}"
    made = client.get_experiment(experiment).tags[key]
    assert "metrics.`evaluate/perplexity`" in made
    client.set_experiment_tag(experiment, key, '{"selectedColumns": ["metrics.`perplexity`"]}')
    store.connect()
    assert client.get_experiment(experiment).tags[key] == made
