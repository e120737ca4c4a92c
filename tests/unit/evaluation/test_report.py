"""The report says what the numbers mean, and when they mean nothing."""

from __future__ import annotations

import pytest

from stages.evaluation import report

HONEST = {
    "perplexity": 3.0,
    "perplexity_low": 2.9,
    "perplexity_high": 3.1,
    "train_perplexity": 2.95,
    "generalization_gap": 0.01,
    "generalization_gap_low": -0.01,
    "generalization_gap_high": 0.03,
    "nats_per_token": 1.0986,
    "bits_per_byte": 0.4,
    "perplexity_per_word": 4.0,
    "accuracy": 0.6,
    "calibration_error": 0.01,
    "perplexity_floor": 2.8,
    "floor_ratio": 1.07,
    "floor_ratio_low": 1.06,
    "floor_ratio_high": 1.08,
    "below_floor": 0,
    "unigram_perplexity": 300.0,
    "trigram_perplexity": 6.5,
    "future_leak": 0.0,
    "overlap_exact": 0.0,
    "overlap_near": 0.0,
    "validation_stories": 1000,
    "validation_tokens": 58000,
}
LEAKING = {"future_leak": 3.0, "perplexity": 1.01, "floor_ratio": 0.36, "floor_ratio_high": 0.37, "below_floor": 1}


def test_an_honest_network_gets_no_alarm() -> None:
    """No alarm, and the table has every number that there is."""
    text = report.text(HONEST)
    assert "**" not in text
    for shown in ("3 ", "2.95", "2.8 ", "6.5", "300", "1.0700 times the floor", "none that can be seen"):
        assert shown in text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (LEAKING, ["This perplexity means nothing", "Below the floor", "causal: true", "why-1.23-was-wrong.md"]),
        ({"floor_ratio": 0.9, "floor_ratio_high": 0.95, "below_floor": 1}, ["Below the floor", "memorized"]),
        ({"generalization_gap_low": 0.005}, ["trained on better"]),
        ({"generalization_gap_low": -0.3, "generalization_gap_high": -0.1}, ["the easier one"]),
        ({"perplexity": 7.0}, ["no better than counting trigrams"]),
        ({"overlap_near": 0.05}, ["5.00% nearly", "look better than it is"]),
    ],
)
def test_each_fault_is_named_in_words(changes: dict[str, float], words: list[str]) -> None:
    """Each fault is named in words, and only then."""
    text, honest = report.text(HONEST | changes), report.text(HONEST)
    for word in words:
        assert word in text
        assert word not in honest


@pytest.mark.parametrize(("missing", "words"), [("floor", "floor"), ("perplexity_per_word", "per word")])
def test_what_is_not_known_is_not_reported(missing: str, words: str) -> None:
    """Text whose true entropy nobody knows has no floor; text without words has no perplexity per word."""
    known = {key: value for key, value in HONEST.items() if missing not in key}
    assert words in report.text(HONEST)
    assert words not in report.text(known)
