"""Which signals ask a training to save and stop, and which stop it at once."""

from __future__ import annotations

import os
import signal

import pytest

from stages.training.signals import WARNINGS, stop_on_signals

pytestmark = pytest.mark.kind("DVC, container or terminal gone")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, *WARNINGS])
def test_a_signal_asks_to_save(number: signal.Signals, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each becomes a request between two steps. Sent again it stops at once, but for warnings, which schedulers repeat."""
    monkeypatch.delenv("DVC_STAGE", raising=False)
    before = signal.getsignal(number)
    with stop_on_signals() as stop:
        os.kill(os.getpid(), number)
        assert stop.signal_name == number.name
        if number in WARNINGS:
            os.kill(os.getpid(), number)
        else:
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), number)
    assert signal.getsignal(number) is before


def test_an_ignored_signal_stays_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under nohup, and where a scheduler has a warning ignored, nothing is stopped."""
    monkeypatch.delenv("DVC_STAGE", raising=False)
    before = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    try:
        with stop_on_signals() as stop:
            os.kill(os.getpid(), signal.SIGUSR1)
            assert stop.signal_name is None
    finally:
        signal.signal(signal.SIGUSR1, before)
