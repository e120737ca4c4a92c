"""Which run a name or an id names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from stages.common.errors import UserError
from stages.tracking import store
from stages.tracking.run import COMPLETE
from tools.recorded_run import Recorded

pytestmark = pytest.mark.kind("sweeps, deleted runs, deleted store")


@pytest.fixture
def client(own_store: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An empty store."""
    monkeypatch.chdir(own_store)
    return store.connect()


def made(client: Any, name: str, complete: str = "yes") -> str:
    """A run of this name: its id."""
    return str(client[0].create_run(client[1], run_name=name, tags={COMPLETE: complete}).info.run_id)


def test_a_name_comes_before_the_beginning_of_an_id(client: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """A run whose name is the beginning of a newer run's id is found by its name, and both are said."""
    newer = made(client, "x")
    named = made(client, newer[:1])
    assert made(client, "y") and Recorded(newer[:1]).id == named
    assert f"note: {newer[:1]} is a run's name; " in capsys.readouterr().out
    assert Recorded(newer[:12]).id == newer
    assert Recorded(newer).id == newer


def test_an_id_s_beginning_must_be_of_one_run(client: Any) -> None:
    """What several ids begin with is refused with their names; nothing at all is no run."""
    runs = [made(client, f"run {number}") for number in range(17)]  # two of them begin with the same digit
    first = next(run[0] for run in runs if sum(other[0] == run[0] for other in runs) > 1)
    with pytest.raises(UserError, match=rf"runs begin with '{first}'.*or a name:\n"):
        Recorded(first)
    with pytest.raises(UserError, match="no run ''"):
        Recorded("")


def test_of_several_of_one_name_the_newest_complete_one(client: Any) -> None:
    """An attempt that was not completed does not hide the run that was."""
    made(client, "mine")
    newest = made(client, "mine")
    made(client, "mine", complete="no")
    assert Recorded("mine").id == newest


def test_a_search_reads_all_pages(client: Any) -> None:
    """MLflow gives a page of a thousand at most."""
    runs = {made(client, "one of five") for _ in range(5)}
    found = store.search_runs(*client, max_results=2)
    assert {run.info.run_id for run in found} == runs and len(found) == 5
    assert len(store.search_runs(*client, f"tags.`{COMPLETE}` = 'yes'", max_results=2)) == 5
    assert store.search_runs(*client, f"tags.`{COMPLETE}` = 'no'") == []
