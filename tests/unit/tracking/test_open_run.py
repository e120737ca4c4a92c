"""Which run an experiment opens, beside experiments that end at the same moment. Real MLflow."""

from __future__ import annotations

from pathlib import Path

import pytest

from stages.common import session
from stages.tracking import liveness, run, store


@pytest.mark.parametrize("fingerprint", ["mine", "another"])
def test_a_run_that_is_completed_while_others_are_looked_through(
    fingerprint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An experiment beside ours completes its run and ends: its run stays FINISHED, and is not taken for one to resume."""
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(session, "root", lambda: tmp_path)
    client, experiment = store.connect()
    other = client.create_run(
        experiment, tags={run.SESSION: "host:1:other", run.FINGERPRINT: fingerprint, run.COMPLETE: "no"}
    ).info.run_id

    def ends(name: str, ours: bool) -> bool:
        client.set_terminated(other, "FINISHED")
        client.set_tag(other, run.COMPLETE, "yes")
        return True

    monkeypatch.setattr(liveness, "dead", ends)
    assert run._left_open(client, experiment, {run.SESSION: "host:2:ours", run.FINGERPRINT: "mine"}) is None
    assert client.get_run(other).info.status == "FINISHED"
