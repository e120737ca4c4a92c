"""What `make reproduce` concludes from two runs' md5s, machines and metrics."""

from __future__ import annotations

import pytest

from tools import reproduce

LOCK = {"data/tokenize/train.npy": "aa", "data/train/model": "bb.dir"}
MACHINE = {"machine.cpu": "X", "machine.torch": "2.13", "machine.threads": "2", "machine.host": "one", "device": "cpu"}
METRICS = {"perplexity": 3.0, "perplexity_low": 2.9, "perplexity_high": 3.1, "steps": 10}


def test_same_outputs(capsys: pytest.CaptureFixture[str]) -> None:
    """All md5s equal: identical."""
    assert reproduce.show_outputs(LOCK, dict(LOCK))
    assert "identical" in capsys.readouterr().out


@pytest.mark.parametrize(
    "after", [LOCK | {"data/train/model": "bc.dir"}, {"data/train/model": "bb.dir"}, LOCK | {"more": "x"}, {}]
)
def test_other_outputs(after: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    """One md5 that differs, is missing or is new: different, and the table says which."""
    assert not reproduce.show_outputs(LOCK, after)
    said = capsys.readouterr().out
    assert "DIFFERENT" in said
    assert "identical" not in said


def test_nothing_recorded_is_not_identical() -> None:
    """An empty record equals an empty result, and proves nothing."""
    assert not reproduce.show_outputs({}, {})


def test_machines(capsys: pytest.CaptureFixture[str]) -> None:
    """A fact that decides bits is reported; the host's name is not, and neither is anything but the machine's facts."""
    assert not reproduce.show_machines(MACHINE, MACHINE | {"machine.host": "two", "device": "x"})
    assert reproduce.show_machines(MACHINE, MACHINE | {"machine.torch": "2.14"})
    assert "torch: 2.13 -> 2.14" in capsys.readouterr().out


@pytest.mark.parametrize(("value", "fits"), [(3.05, True), (3.1, True), (3.2, False), (float("nan"), False), (2.0, False)])
def test_metrics(value: float, fits: bool) -> None:
    """A metric fits if it is in the recorded interval; one that is not a number does not."""
    assert reproduce.show_metrics(METRICS, METRICS | {"perplexity": value}) is fits


def test_a_missing_metric_does_not_fit() -> None:
    """A metric that the new run has not is no success."""
    assert not reproduce.show_metrics(METRICS, {})
    assert not reproduce.show_metrics({}, {})
