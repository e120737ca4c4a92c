"""The list of stages."""

from __future__ import annotations

from pathlib import Path

import pytest

from stages.tracking import pipeline


def test_the_stages_are_those_of_dvc_yaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stage that is added to dvc.yaml is in the list, and its metrics are collected if it has some."""
    assert list(pipeline.stages()) == ["identify", "download", "tokenize", "train", "evaluate", "generate", "explain", "track"]
    text = "stages:\n  train: {cmd: a, metrics: [data/train/metrics.json]}\n  count: {cmd: b}\n"
    (tmp_path / "dvc.yaml").write_text(text, encoding="utf-8")
    monkeypatch.setattr(pipeline, "PIPELINE", tmp_path / "dvc.yaml")
    assert list(pipeline.stages()) == ["train", "count"]
    assert pipeline.measured() == ["train"]


def test_a_param_that_dvc_recorded_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A value in dvc.lock that is not the one that the stage ran with is named, with the command that mends it."""
    text = "stages:\n  train: {params: {params.yaml: {epochs: 4, seed: 1, dropout: 0}}}\n  track: {}\n"
    (tmp_path / "dvc.lock").write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert not pipeline.recorded_otherwise(
        {"train": {"ran_with": {"epochs": 4, "dropout": 0.0}}, "track": {"ran_with": {"a": 1}}}
    )
    (found,) = pipeline.recorded_otherwise({"train": {"ran_with": {"epochs": 5, "seed": 1}}, "new": {}})
    assert found == "epochs: train ran with 5, dvc.lock has 4 (dvc repro -f train)"
