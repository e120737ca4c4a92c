"""The stage evaluate: its numbers, its words, and what it refuses."""

from __future__ import annotations

import json
import shutil
from argparse import Namespace
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from repository import digests
from tiny import save_model

from stages import evaluate
from stages.evaluation import report
from stages.evaluation.scoring import StorySums

Project = Callable[..., Path]


@pytest.fixture
def project(tokenized: Path, tmp_path: Path) -> Project:
    """Makes a project folder with tokens and an untrained network."""

    def make(causal: bool = True) -> Path:
        folder = tmp_path / "project"
        shutil.copytree(tokenized, folder)
        save_model(folder, causal=causal)
        (folder / "data/train/validation.csv").write_text("step,epoch,val_loss\n1,1.0,9.0\n")
        (folder / "data/train/metrics.json").write_text("{}")
        return folder

    return make


def evaluated(folder: Path) -> dict[str, Any]:
    """Run the stage; its metrics."""
    with chdir(folder):
        evaluate.main(Namespace())
    return dict(json.loads((folder / "data/evaluate/metrics.json").read_text()))


def test_two_runs_write_the_same_bytes(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    """Two runs write the same bytes: metrics, a report and two curves, with the floor below and the interval around."""
    folder = project()
    metrics = evaluated(folder)
    first = digests(folder / "data/evaluate")
    assert (folder / "data/evaluate/report.md").read_text() in capsys.readouterr().out
    assert set(first) == {"metrics.json", "report.md", "loss_by_position.csv", "calibration.csv"}
    assert metrics["perplexity_low"] < metrics["perplexity"] < metrics["perplexity_high"]
    assert metrics["perplexity_floor"] < metrics["trigram_perplexity"] < metrics["unigram_perplexity"] < metrics["perplexity"]
    assert metrics["future_leak"] == metrics["leak_alarm"] == 0
    assert metrics["below_floor"] == 0
    evaluated(folder)
    assert digests(folder / "data/evaluate") == first


def test_the_report_says_that_an_unmasked_network_means_nothing(project: Project) -> None:
    """Without the mask the report says so in words."""
    folder = project(causal=False)
    assert evaluated(folder)["future_leak"] > report.LEAK
    assert "This perplexity means nothing" in (folder / "data/evaluate/report.md").read_text()


def test_a_network_that_others_have_saved_is_scored(project: Project) -> None:
    """What transformers writes back, in other bytes, still belongs to the tokens: it is evaluated to the same perplexity."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = project()
    metrics, model = evaluated(folder), folder / "data/train/model"
    before = (model / "tokenizer.json").read_bytes()
    for kind in (AutoModelForCausalLM, AutoTokenizer):
        kind.from_pretrained(model).save_pretrained(model)
    assert (model / "tokenizer.json").read_bytes() != before
    assert evaluated(folder) == metrics


def test_the_floor_is_the_texts_own_entropy() -> None:
    """exp(-sum logprob / sum tokens), the ratio to it, and below_floor only where the whole interval is below 1."""
    generator = np.random.default_rng(0)
    tokens = generator.integers(40, 60, 500)
    logprobs = -tokens * generator.normal(1.0, 0.2, 500)
    honest = evaluate.floor(StorySums(-logprobs + tokens * generator.normal(0.05, 0.1, 500), tokens), logprobs)
    assert honest["perplexity_floor"] == pytest.approx(np.exp(-logprobs.sum() / tokens.sum()))
    assert 1 < honest["floor_ratio_low"] < honest["floor_ratio"] < honest["floor_ratio_high"]
    assert honest["floor_ratio"] == pytest.approx(np.exp(0.05), abs=0.02)
    assert honest["below_floor"] == 0
    assert evaluate.floor(StorySums(-logprobs * 0.9, tokens), logprobs)["below_floor"] == 1
    assert evaluate.floor(StorySums(-logprobs - 1e-4 + generator.normal(0, 1, 500), tokens), logprobs)["below_floor"] == 0
    assert evaluate.floor(StorySums(-logprobs, tokens), None) == {}


@pytest.mark.parametrize(("words", "reported"), [(500, True), (2, False), (0, False)])
def test_words_count_only_where_there_are_some(words: int, reported: bool) -> None:
    """A text without blanks has no perplexity a word, and is scored all the same."""
    sums = StorySums(np.array([500.0, 900.0]), np.array([300, 400]))
    found = evaluate.losses(sums, sums, {"bytes": 3_000, "words": words})
    assert ("perplexity_per_word" in found) is reported
    assert found["perplexity"] == pytest.approx(np.exp(2.0))
