"""The two kinds of step are one training: a captured step, replayed eagerly on a CPU, gives the eager step's bits."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from step_pair import same, state, trainer

from model import GPT2, GPT2Config
from stages.common.errors import UserError
from stages.compute.cuda_graph import ReplayFn
from stages.training.checkpoint import Checkpoints
from stages.training.optimizer import make_optimizers
from stages.training.signals import Stop
from stages.training.step import CapturedStep, Step, compiles
from stages.training.trainer import SKIPS


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_captured_is_eager(tmp_path: Path, optimizer: str, precision: str) -> None:
    """Two epochs with dropout, accumulation, clipping and a smaller last batch: weights, moments, history are the same bits."""
    results = []
    for kind in ("eager", "captured"):
        with Checkpoints(tmp_path / kind):
            made = trainer(tmp_path / kind, kind, optimizer=optimizer, precision=precision)
            made.fit(Stop())
            results.append(state(made))
            if isinstance(made.take, CapturedStep):
                assert len(made.take.recorded) == 2  # a full batch and an epoch's last one
                assert made.take.eager is None
    assert any(row["grad_norm"] > 1.0 for row in results[0]["history"]["training"]), "clipping took part"
    same(*results)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("at", [3, 8, 9])  # inside an epoch of 8 steps, at its end, behind it
def test_resumed_is_uninterrupted(tmp_path: Path, optimizer: str, at: int) -> None:
    """A captured training that goes on in another process after any step ends as if it had never stopped."""
    straight = trainer(tmp_path / "a", "captured", optimizer=optimizer, precision="fp16")
    straight.fit(Stop())
    first = trainer(tmp_path / "b", "captured", optimizer=optimizer, precision="fp16")
    with first.checkpoints:
        for _ in range(at):
            first.train(first.read(first.step))
        first.settle()
        if first.step == 8:
            first.history.since_epoch.take()
        first._save()
        second = trainer(tmp_path / "b", "captured", optimizer=optimizer, precision="fp16")
        second.fit(Stop())
    for part in ("weights", "moments", "scale"):
        same(state(straight)[part], state(second)[part])
    assert straight.history.training == second.history.training


def test_recording_leaves_no_trace(tmp_path: Path) -> None:
    """Recording changes no weight, moment, scale or random number, whether the optimizer has a state already or not."""
    for steps_before in (0, 2):
        made = trainer(tmp_path, "captured", precision="fp16", optimizer="muon")
        for _ in range(steps_before):
            made.train(made.read(made.step))
        before, numbers = state(made), torch.get_rng_state()
        take = made.take
        assert isinstance(take, CapturedStep)
        batch = made.read(7)  # a shape of its own
        take._prepare(batch, tuple(tokens.shape for tokens, _ in batch.micros))
        after = state(made)
        assert all(p.grad is None for p in made.net.parameters())
        for part in ("weights", "scale"):
            same(before[part], after[part])
        if steps_before:
            same(before["moments"], after["moments"])
            assert not torch.equal(numbers, torch.get_rng_state()), "warm-up did draw: each step is seeded on its own"
        else:
            assert all(not value.any() for each in after["moments"] for values in each for value in values.values())


@pytest.mark.parametrize("kind", ["eager", "captured"])
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_step_that_is_not_finite_changes_nothing(tmp_path: Path, kind: str, optimizer: str) -> None:
    """Where loss or norm is not finite, weights, moments and steps stay as they were, and the result says so."""
    made = trainer(tmp_path, kind, optimizer=optimizer)
    for _ in range(2):
        made.train(made.read(made.step))
    before = state(made)
    bias = made.net.ln_f.bias
    kept = bias.detach().clone()
    with torch.no_grad():
        bias[0] = math.inf
    loss, _ = made.take(made.read(2)).tolist()
    assert not math.isfinite(loss)
    with torch.no_grad():
        bias.copy_(kept)
    for part in ("weights", "moments"):
        same(before[part], state(made)[part])


@pytest.mark.parametrize("owed", [1, 4])
def test_divergence_names_its_step_however_late_it_is_read(tmp_path: Path, owed: int) -> None:
    """Of steps that were read together the first bad one is named, with its windows, and no later one was counted."""
    made = trainer(tmp_path, "captured")
    for step in range(2 + owed):
        if step == 2:
            with torch.no_grad():
                made.net.ln_f.bias[0] = math.nan
        made.train(made.read(made.step))
    windows = ", ".join(str(start // 32) for start in made.batches.starts(2))
    with pytest.raises(UserError, match=rf"diverged at step 3: .*windows {windows}\)"):
        made.settle()
    assert made.tokens == 2 * 6 * 32


@pytest.mark.parametrize("kind", ["eager", "captured"])
def test_fp16_skips_and_lowers_its_scale(tmp_path: Path, kind: str) -> None:
    """A gradient that float16 cannot hold costs a step and half of the scale, and is counted; the training goes on."""
    made = trainer(tmp_path, kind, precision="fp16")
    made.take.scaler.load_state_dict(made.take.scaler.state_dict() | {"scale": 2.0**40})
    with made.checkpoints:
        made.fit(Stop())
    scale = made.take.scaler.get_scale()
    assert made.history.skipped == 40 - round(math.log2(scale)) > 0
    assert math.isfinite(made.history.training[-1]["train_loss"])
    assert all(math.isfinite(value) for row in made.history.training for value in row.values())


def test_fp16_gives_up_in_the_end(tmp_path: Path) -> None:
    """Gradients that are too large at any scale end the training with the message of a divergence."""
    made = trainer(tmp_path, "eager", precision="fp16", epochs=20)
    made.take.scaler.load_state_dict(made.take.scaler.state_dict() | {"scale": 2.0**120})
    with made.checkpoints, pytest.raises(UserError, match=rf"diverged at step {SKIPS}"):
        made.fit(Stop())


def test_a_failed_capture_costs_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """If recording fails, even in the middle of a step, one line says so and the training is the eager one, bit for bit."""

    def fails(run: ReplayFn) -> ReplayFn:
        run()
        step.module.net.ln_f.weight.sum().backward()
        raise RuntimeError("the driver is too old\nand more lines")

    results = []
    for kind in ("eager", "captured"):
        made = trainer(tmp_path / kind, kind, precision="fp16", optimizer="muon")
        step: Step = made.take
        if isinstance(step, CapturedStep):
            step.record = fails
        with made.checkpoints:
            made.fit(Stop())
        results.append(state(made))
    same(*results)
    err = capsys.readouterr().err
    assert err.count("could not be captured (the driver is too old); training goes on eagerly") == 1


def test_static_adamw_is_adamw() -> None:
    """On a CPU the static form of AdamW takes the plain form's steps, to the bit."""
    config = GPT2Config(50, block_size=8, n_layer=1, n_head=1, n_embd=8)
    torch.manual_seed(0)
    nets = [GPT2(config)]
    nets.append(copy.deepcopy(nets[0]))
    for net, static in zip(nets, (False, True), strict=True):
        (optimizer,) = make_optimizers(net, "adamw", 3e-3, 0.1, static=static)
        for step in range(3):
            torch.manual_seed(step)
            tokens = torch.randint(50, (2, 9))
            net.loss(tokens[:, :-1], tokens[:, 1:]).backward()
            optimizer.step()
            optimizer.zero_grad()
    for one, other in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        assert torch.equal(one, other)


def test_compiling_must_pay() -> None:
    """`auto` does not compile on a CPU; true and false are obeyed."""
    config = GPT2Config(50_257)
    assert not compiles("auto", "cpu", config, 1024, 10**9)
    assert compiles(True, "cpu", config, 1024, 1)
    assert not compiles(False, "cuda", config, 1024, 10**9)
