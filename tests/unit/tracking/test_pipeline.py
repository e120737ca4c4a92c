"""The list of stages."""

from __future__ import annotations

from pathlib import Path

import pytest

from stages.common import inputs
from stages.tracking import pipeline


def test_the_stages_are_those_of_dvc_yaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stage that is added to dvc.yaml is in the list, and its metrics are collected if it has some."""
    text = "stages:\n  train: {cmd: a, metrics: [data/train/metrics.json]}\n  count: {cmd: b}\n"
    (tmp_path / "dvc.yaml").write_text(text, encoding="utf-8")
    monkeypatch.setattr(pipeline, "PIPELINE", tmp_path / "dvc.yaml")
    assert list(pipeline.stages()) == ["train", "count"]
    assert pipeline.measured() == ["train"]


def test_what_dvc_recorded_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A param in dvc.lock, or code, that is not what the stage ran with is named with the stage."""
    text = "stages:\n  train: {params: {params.yaml: {epochs: 4, seed: 1, dropout: 0}}}\n  track: {}\n"
    (tmp_path / "dvc.lock").write_text(text, encoding="utf-8")
    (tmp_path / "dvc.yaml").write_text("stages:\n  train: {cmd: a, deps: [code.py, data/a.npy]}\n", encoding="utf-8")
    (tmp_path / "params.yaml").write_text("epochs: 4\n", encoding="utf-8")
    (tmp_path / "code.py").write_text("one = 1\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    code = inputs.Inputs.read("train").code()
    assert not pipeline.recorded_otherwise(
        {"train": {"ran_with": {"epochs": 4, "dropout": 0.0}, "code": code}, "track": {"ran_with": {"a": 1}}}
    )
    assert pipeline.recorded_otherwise({"train": {"ran_with": {"epochs": 5, "seed": 1}}, "new": {}}) == {
        "train": "train with epochs 4 (it was 5)"
    }
    (tmp_path / "code.py").write_text("one = 2\n", encoding="utf-8")
    assert pipeline.recorded_otherwise({"train": {"ran_with": {}, "code": code}}) == {"train": "train with other code"}
