"""The run's input: the data set as MLflow shows it, whatever number of files it is made of. Real MLflow."""

from __future__ import annotations

import json

import mlflow.data
import pytest

from stages.tracking import run, store


@pytest.mark.usefixtures("own_store")
def test_a_data_set_of_many_files_is_logged() -> None:
    """MLflow keeps 65,535 characters of where data come from: the files are counted there, with one checksum of them all.

    MLflow's own reader understands it.
    """
    client, experiment = store.connect()
    for many in (1200, 1201):
        files = {f"a-story-with-quite-a-long-name-{number}.txt": "0" * 64 for number in range(many)}
        splits = {"train": {"stories": 1, "sha256": str(many).ljust(64, "0")}}
        ours = run.Run(client, experiment, client.create_run(experiment).info.run_id)
        ours.dataset({"dataset": "mine", "revision": None, "license": None, "splits": splits, "files": files})
    newest, _ = client.search_runs([experiment])
    assert mlflow.data.get_source(newest.inputs.dataset_inputs[0].dataset).uri == "mine"
    one, other = (json.loads(one.inputs.dataset_inputs[0].dataset.source) for one in client.search_runs([experiment]))
    assert {one["files"], other["files"]} == {1200, 1201}
    assert one["sha256"] != other["sha256"]
