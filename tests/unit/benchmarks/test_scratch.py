"""Scratch projects: the committed params with what was asked for changed, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import scratch
from stages.common.params import read_yaml


def test_only_what_was_asked_for_is_changed(tmp_path: Path) -> None:
    """Values of every kind arrive as the stages read them; all others are those of the committed params.yaml."""
    changes = {"max_samples": 60, "learning_rate": 1e-05, "causal": False, "top_k": None, "prompt": ["010", "x: [y] # z"]}
    folder = scratch.project(tmp_path / "a b", **changes)
    before, after = (read_yaml((place / "params.yaml").read_text(encoding="utf-8")) for place in (scratch.ROOT, folder))
    assert after == before | changes
    assert (folder / "dvc.yaml").is_file()


def test_a_key_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    """A renamed key cannot be left behind without a word."""
    with pytest.raises(KeyError, match="max_stories"):
        scratch.project(tmp_path, max_stories=10)


def test_values_are_typed_as_in_params_yaml() -> None:
    """`-S key=value` gives what the same value gives in params.yaml."""
    typed = scratch.parse(["max_samples=30", "causal=false", "top_p=null", "prompt=a=b", "learning_rate=1e-3"])
    assert typed == {"max_samples": 30, "causal": False, "top_p": None, "prompt": "a=b", "learning_rate": 0.001}
