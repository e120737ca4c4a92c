"""A step of either kind: the same bits from both, what it does when numbers are not finite, which operations it is made of."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from operations import operations, questions
from step_pair import finished, replayed, same, state, trainer

from model import loss
from stages.common.errors import UserError
from stages.compute.cuda_graph import CaptureFailed, ReplayFn
from stages.training.signals import Stop
from stages.training.step import CapturedStep
from stages.training.trainer import SKIPS

either = pytest.mark.parametrize("kind", ["eager", "captured"])
pytestmark = pytest.mark.usefixtures("one_thread")


@either
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_step_that_is_not_finite_changes_nothing(tmp_path: Path, kind: str, optimizer: str) -> None:
    """Where loss or norm is not finite, weights, moments and steps stay as they were, and the result says so."""
    made = trainer(tmp_path, kind, optimizer=optimizer)
    for _ in range(2):
        made.take_step(made.read(made.step))
    before = state(made)
    bias = made.net.ln_f.bias
    kept = bias.detach().clone()
    with torch.no_grad():
        bias[0] = math.inf
    loss, _ = made.training_step(made.read(2)).tolist()
    assert not math.isfinite(loss)
    with torch.no_grad():
        bias.copy_(kept)
    for part in ("weights", "moments"):
        same(before[part], state(made)[part])


@either
@pytest.mark.parametrize("pending", [1, 4])
def test_divergence_names_its_step_however_late_it_is_read(tmp_path: Path, kind: str, pending: int) -> None:
    """Of steps that were read together the first bad one is named, with its windows, and no later one was counted."""
    made = trainer(tmp_path, kind)
    for step in range(2 + pending):
        if step == 2:
            with torch.no_grad():
                made.net.ln_f.bias[0] = math.nan
        made.take_step(made.read(made.step))
    windows = ", ".join(str(start // 32) for start in made.batches.starts(2))
    with pytest.raises(UserError, match=rf"diverged at step 3: .*windows {windows}\)"):
        made.flush_metrics()
    assert made.history.tokens == 2 * 6 * 32


@either
def test_fp16_skips_and_lowers_its_scale(tmp_path: Path, kind: str) -> None:
    """A gradient that float16 cannot hold costs a step and half of the scale, and is counted; the training continues."""
    made = trainer(tmp_path, kind, "fp16")
    scaler = made.training_step.scaler
    scaler.load_state_dict(scaler.state_dict() | {"scale": 2.0**40})
    with made.checkpoints:
        made.fit(Stop())
    assert made.history.skipped == 40 - round(math.log2(scaler.get_scale())) > 0
    assert math.isfinite(made.history.training[-1]["train_loss"])
    assert all(math.isfinite(value) for row in made.history.training for value in row.values())


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


def test_fp16_gives_up_in_the_end(tmp_path: Path) -> None:
    """Gradients that are too large at any scale end the training with the message of a divergence."""
    made = trainer(tmp_path, "eager", "fp16", epochs=20)
    scaler = made.training_step.scaler
    scaler.load_state_dict(scaler.state_dict() | {"scale": 2.0**120})
    with made.checkpoints, pytest.raises(UserError, match=rf"diverged at step {SKIPS}"):
        made.fit(Stop())


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_nothing_in_a_step_asks_the_device(
    tmp_path: Path, optimizer: str, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The body of a step reads no value on the CPU, so that it can be recorded, and reads each gradient once to clip it."""
    monkeypatch.setattr(loss, "CPU", loss.GPU)  # a CPU's way to the loss looks for losses that need more precision
    made = trainer(tmp_path, "captured", precision, optimizer=optimizer)
    parts, batch = made.step_parts, made.read(0)
    scaled = replace(parts, controls=replace(parts.controls, grad_scale=torch.ones(())))  # as on a GPU
    for each, multiplied in ((parts, 1), (scaled, 0)):
        step = CapturedStep(each, replayed)
        step(batch)
        assert questions(lambda step=step: step.body(step.buffers)) == []
        assert operations(lambda step=step: step.body(step.buffers))["_foreach_mul_"] == multiplied
