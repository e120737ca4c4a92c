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
