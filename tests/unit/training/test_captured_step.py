"""A captured step, replayed on a CPU, gives the eager step's bits; its recording leaves no trace, and may fail."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from step_pair import finished, replayed, same, state, trainer

from stages.compute.cuda_graph import CaptureFailed, ReplayFn
from stages.training.signals import Stop
from stages.training.step import CapturedStep

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_captured_is_eager(tmp_path: Path, optimizer: str, precision: str) -> None:
    """Two epochs with dropout, accumulation, clipping and a smaller last batch: weights, moments, history are the same bits."""
    eager, captured = (finished(tmp_path / kind, kind, precision, optimizer=optimizer) for kind in ("eager", "captured"))
    assert isinstance(captured.training_step, CapturedStep)
    assert captured.training_step.replay is not None
    assert any(row["grad_norm"] > 1.0 for row in eager.history.training), "clipping took part"
    same(state(eager), state(captured))


@pytest.mark.parametrize("steps_before", [0, 2])
def test_recording_leaves_no_trace(tmp_path: Path, steps_before: int) -> None:
    """Recording changes no weight, moment or scale, whether the optimizer has a state already or not."""
    eager = trainer(tmp_path, "eager", "fp16", optimizer="muon")
    for _ in range(steps_before):
        eager.take_step(eager.read(eager.step))
    before, numbers = state(eager), torch.get_rng_state()
    step = CapturedStep(eager.step_parts, record=replayed)
    step.scaler.load_state_dict(before["scale"])
    step.capture(eager.read(steps_before))
    after = state(eager)
    assert all(p.grad is None for p in eager.net.parameters())
    same(before["weights"], after["weights"])
    same(before["scale"], step.scaler.state_dict())
    assert not torch.equal(numbers, torch.get_rng_state()), "recording did draw: each step is seeded on its own"
    if steps_before:
        same(before["moments"], after["moments"])
    else:
        assert all(not value.any() for moments in after["moments"] for values in moments for value in values.values())


def test_a_failed_capture_costs_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """If recording fails, even in the middle of a step, one line says so and the training is the eager one, bit for bit."""

    def fails(run: ReplayFn) -> ReplayFn:
        run()
        captured.net.ln_f.weight.sum().backward()
        captured.training_step.scaler.unscale_(captured.step_parts.optimizers[0])
        raise CaptureFailed("the driver is too old")

    eager = finished(tmp_path / "eager", "eager", "fp16", optimizer="muon")
    captured = trainer(tmp_path / "captured", "captured", "fp16", record=fails, optimizer="muon")
    with captured.checkpoints:
        captured.fit(Stop())
    same(state(eager), state(captured))
    err = capsys.readouterr().err
    assert err.count("could not be captured (the driver is too old)") == 1
    assert err.count("warning") == 1
