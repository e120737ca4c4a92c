"""Checkpoints: how often they are written, what they cost, and that the training continues meanwhile."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from tiny import trained

from stages.training import checkpoint
from stages.training.checkpoint import FIRST_SECONDS, OFTEN, SHARE, Checkpoints, State


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Writing waits until this is set."""
    gate, write = threading.Event(), checkpoint.save_file

    def wait_and_write(*args: Any, **options: Any) -> None:
        assert gate.wait(60)
        write(*args, **options)

    monkeypatch.setattr(checkpoint, "save_file", wait_and_write)
    return gate


def test_the_first_is_a_minute_away(tmp_path: Path) -> None:
    """The first checkpoint is due after `checkpoint_every` steps or a minute, whichever comes later."""
    clock = Clock()
    with Checkpoints(tmp_path, clock=clock) as checkpoints:
        clock.now = FIRST_SECONDS + 1
        assert not checkpoints.due(499, 500)
        assert checkpoints.due(500, 500)
        clock.now = FIRST_SECONDS - 1
        assert not checkpoints.due(500_000, 500)


@pytest.mark.parametrize("seconds", [0.5, 20.0])
def test_a_checkpoint_earns_its_time(tmp_path: Path, seconds: float) -> None:
    """Where one has cost so many seconds, the next one is due when these are SHARE of the training since then."""
    clock, (net, optimizers) = Clock(), trained()

    class Slow(dict[str, Any]):  # the copying takes so long
        def __getitem__(self, key: str) -> Any:
            if key == "net.wte.weight":
                clock.now += seconds
            return super().__getitem__(key)

    with Checkpoints(tmp_path, clock=clock) as checkpoints:
        checkpoints._copies = Slow()
        checkpoints.save(State(1000, {}), net, optimizers)
        assert checkpoints.wait() is not None
        saved = clock.now
        clock.now = saved + 0.9 * seconds / SHARE
        assert not checkpoints.due(5000, OFTEN)
        clock.now = saved + 1.1 * seconds / SHARE + 1.0  # a second for what the thread has computed
        assert checkpoints.due(5000, OFTEN)
        assert not checkpoints.due(1000 + OFTEN - 1, OFTEN)


def test_who_wants_them_often_gets_them(tmp_path: Path) -> None:
    """With `checkpoint_every` below OFTEN they are due after just so many steps, however long each takes; 0 seconds in."""
    clock, (net, optimizers) = Clock(), trained()
    with Checkpoints(tmp_path, clock=clock) as checkpoints:
        for step in (7, 14):
            assert not checkpoints.due(step - 1, 7)
            assert checkpoints.due(step, 7)
            checkpoints.save(State(step, {}), net, optimizers)


def test_the_training_goes_on_while_one_is_written(tmp_path: Path, held: threading.Event) -> None:
    """What is written is the state of the moment of saving, though the weights have changed since; no second one begins."""
    clock, (net, optimizers) = Clock(), trained()
    before = net.wte.weight.detach().clone()
    with Checkpoints(tmp_path, clock=clock) as checkpoints:
        checkpoints.save(State(OFTEN, {}), net, optimizers)
        clock.now = 1e9
        assert not checkpoints.due(10 * OFTEN, OFTEN)
        with torch.no_grad():
            net.wte.weight.zero_()
        held.set()
        path = checkpoints.wait()
        assert path is not None
        assert torch.equal(load_file(path)["net.wte.weight"], before)
        assert checkpoints.due(10 * OFTEN, OFTEN)


def test_a_failed_write_is_raised_at_the_next_step(
    tmp_path: Path, held: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What went wrong in the thread is raised in the training, long before the next checkpoint is due."""

    def full(*_: Any, **__: Any) -> None:
        raise SafetensorError("No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(State(1, {}), *trained())
        while checkpoints._writing is not None and not checkpoints._writing.done():
            pass
        with pytest.raises(SafetensorError, match="No space"):
            checkpoints.due(2, 500)


def test_tied_weights_are_stored_once(tmp_path: Path) -> None:
    """A checkpoint holds each parameter and its two moments once, and little else."""
    net, optimizers = trained()
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(State(1, {}), net, optimizers)
        path = checkpoints.wait()
    assert path is not None
    values = sum(parameter.numel() for parameter in net.parameters())
    assert sum(tensor.numel() for tensor in load_file(path).values()) <= 3 * values + len(list(net.parameters()))


def test_leaving_waits_for_the_last(tmp_path: Path, held: threading.Event) -> None:
    """Whatever ends the training, the checkpoint that is being written is complete before the lock is released."""
    with Checkpoints(tmp_path / "ck") as checkpoints:
        checkpoints.save(State(3, {}), *trained())
        threading.Timer(0.2, held.set).start()
    assert [path.name[:15] for path in (tmp_path / "ck").glob("step*")] == ["step-0000000003"]


@pytest.mark.parametrize("name", [".step-0000000007.safetensors.abc", ".tmp8w4wEY"])  # ours and safetensors'
def test_a_half_written_file_is_removed(tmp_path: Path, name: str) -> None:
    """What a kill in the middle of a save has left, as large as a checkpoint, is gone once the training begins again."""
    left = tmp_path / name
    left.write_bytes(b"half")
    with Checkpoints(tmp_path):
        assert not left.exists()
