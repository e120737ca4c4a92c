"""A captured step, replayed on a CPU, gives the eager step's bits; its recording may fail."""

from __future__ import annotations

from pathlib import Path

import pytest
from step_pair import finished, same, state, trainer

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
