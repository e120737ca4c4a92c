"""What `make reproduce` concludes from two runs' machines and metrics."""

from __future__ import annotations

import pytest

from tools import reproduce

MACHINE = {"machine.cpu": "X", "machine.torch": "2.13", "machine.threads": "2", "machine.host": "one", "device": "cpu"}
METRICS = {"perplexity": 3.0, "perplexity_low": 2.9, "perplexity_high": 3.1, "steps": 10}


def test_only_facts_that_decide_bits_are_reported(capsys: pytest.CaptureFixture[str]) -> None:
    """A fact that decides bits is reported; the host's name is not, and neither is anything but the machine's facts."""
    assert not reproduce.show_machines(MACHINE, MACHINE | {"machine.host": "two", "device": "x"})
    assert reproduce.show_machines(MACHINE, MACHINE | {"machine.torch": "2.14"})
    assert "torch: 2.13 -> 2.14" in capsys.readouterr().out
    setting = {"machine.environment": "MKL_CBWR=COMPATIBLE"}
    assert reproduce.show_machines(MACHINE, MACHINE | setting)
    assert reproduce.show_machines(MACHINE | setting, MACHINE)
    said = capsys.readouterr().out
    assert "environment: (none) -> MKL_CBWR=COMPATIBLE" in said and "environment: MKL_CBWR=COMPATIBLE -> (none)" in said
    assert not reproduce.show_machines(MACHINE, MACHINE | {"machine.libc": "glibc 2.36"}), "an older run knows less"


@pytest.mark.parametrize(("value", "fits"), [(3.05, True), (3.1, True), (3.2, False), (float("nan"), False), (2.0, False)])
def test_metrics_fit_in_their_recorded_interval(value: float, fits: bool) -> None:
    """A metric fits if it is in the recorded interval; one that is not a number, or is missing, does not."""
    assert reproduce.show_metrics(METRICS, METRICS | {"perplexity": value}) is fits
    assert not reproduce.show_metrics(METRICS, {})
    assert not reproduce.show_metrics({}, {})
