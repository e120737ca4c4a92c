"""Which signals ask a training to save and stop, and which stop it at once."""

from __future__ import annotations

import os
import signal

import pytest

from stages.common import inputs
from stages.common.errors import UserError
from stages.training.distributed import World
from stages.training.signals import WARNINGS, end_if_edited, stop_on_signals

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


@pytest.mark.parametrize(
    ("edited", "into_tokens", "done"), [([], False, []), (["seed: 1 -> 2"], False, ["save"]), (["train.npy"], True, ["forget"])]
)
def test_an_edited_training_is_saved(
    edited: list[str], into_tokens: bool, done: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its last step is saved before it ends; checkpoints are forgotten only where other tokens were written into the file."""
    monkeypatch.setattr(inputs, "edited", lambda: edited)
    monkeypatch.setattr(inputs, "written_into", lambda found, ending: into_tokens)
    called: list[str] = []
    save, forget = (lambda: called.append("save")), (lambda: called.append("forget"))
    if edited:
        with pytest.raises(UserError, match="edited while"):
            end_if_edited(save, forget, World())
    else:
        end_if_edited(save, forget, World())
    assert called == done
