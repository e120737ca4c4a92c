"""A step as a CUDA graph: the eager step's bits, no trace of its recording, nothing that waits, and a way out when it fails."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from exact_kernels import exact_kernels
from step_pair import finished, same, state, trainer

from model import GPT2, GPT2Config
from model.attention import AttentionByHand, attention, has_flash
from stages.common.errors import UserError
from stages.compute import machine
from stages.compute.cuda_graph import CaptureFailed, ReplayFn, cuda_graph
from stages.training.signals import Stop
from stages.training.step import CapturedStep
from stages.training.trainer import Trainer

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")]
GPU: dict[str, Any] = {"device": "cuda"}


@pytest.fixture(autouse=True)
def _exact() -> Iterator[None]:
    """As in the stage `train`: kernels that give the same bits each time."""
    with exact_kernels():
        yield


@pytest.fixture
def precision() -> str:
    """What `auto` is here: bf16, or fp16 on older GPUs."""
    return machine.pick_precision("auto", "cuda")


def captured(made: Trainer) -> CapturedStep:
    """Its step, which must be a captured one."""
    assert isinstance(made.training_step, CapturedStep)
    assert not made.training_step.failed, "the capture failed"
    return made.training_step


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("kind", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_captured_is_eager(tmp_path: Path, optimizer: str, kind: str, dropout: float) -> None:
    """Two epochs with accumulation, clipping and a smaller last batch: weights, moments, history are the eager step's bits."""
    if kind == "bf16" and not torch.cuda.is_bf16_supported(including_emulation=False):
        pytest.skip("no bf16 on this GPU")
    options: dict[str, Any] = {"optimizer": optimizer, "dropout": dropout, "compile": False} | GPU
    eager, made = (finished(tmp_path / step, step, kind, **options) for step in ("eager", "captured"))
    assert captured(made).replay is not None
    same(state(eager), state(made))


def test_no_step_waits(tmp_path: Path, precision: str) -> None:
    """Once recorded, a step has nothing in it that waits for the GPU, the reading of its results apart."""
    made = trainer(tmp_path, "captured", precision, optimizer="muon", **GPU)
    batches = [made.read(step) for step in range(6)]
    made.take_step(batches[0])
    torch.cuda.set_sync_debug_mode("error")
    try:
        for batch in batches[1:]:
            made.take_step(batch)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    made.flush_metrics()
    assert made.history.tokens == sum(batch.total for batch in batches)


def test_a_step_that_is_not_finite_changes_nothing(tmp_path: Path, precision: str) -> None:
    """A poisoned weight: the step is skipped on the GPU, and the message names it when it is read, three steps later."""
    made = trainer(tmp_path, "captured", precision, optimizer="muon", **GPU)
    for _ in range(2):
        made.take_step(made.read(made.step))
    made.flush_metrics()
    before = state(made)["moments"]
    with torch.no_grad():
        made.net.ln_f.bias[0] = torch.inf
    for _ in range(3):
        made.take_step(made.read(made.step))
    same(before, state(made)["moments"])
    with pytest.raises(UserError, match=r"diverged at step 3: "):
        made.flush_metrics()


def test_fp16_skips_and_lowers_its_scale(tmp_path: Path) -> None:
    """In the graph, too, a gradient that float16 cannot hold costs a step and half of the scale, and is counted."""
    made = trainer(tmp_path, "captured", "fp16", **GPU)
    made.training_step.scaler.load_state_dict(made.training_step.scaler.state_dict() | {"scale": 2.0**40})
    with made.checkpoints:
        made.fit(Stop())
    captured(made)
    scale = made.training_step.scaler.get_scale()
    assert 2.0 ** (40 - made.history.skipped) == scale < 2.0**40


@pytest.mark.parametrize("how", ["a wait in the capture", "before the capture"])
def test_a_failed_capture_costs_one_line(tmp_path: Path, how: str, precision: str, capsys: pytest.CaptureFixture[str]) -> None:
    """If recording fails, the training continues eagerly, bit for bit as if it had been eager from the start, with dropout."""
    record = cuda_graph(torch.device("cuda:0"))

    def fails(run: ReplayFn) -> ReplayFn:
        if how == "before the capture":
            run()
            raise CaptureFailed("no such thing on this driver")

        def with_a_wait() -> None:
            run()
            float(made.training_step.result[0])

        return record(with_a_wait)

    options: dict[str, Any] = {"optimizer": "muon", "compile": False} | GPU
    eager = finished(tmp_path / "eager", "eager", precision, **options)
    made = trainer(tmp_path / "captured", "captured", precision, record=fails, **options)
    with made.checkpoints:
        made.fit(Stop())
    same(state(eager), state(made))
    assert capsys.readouterr().err.count("could not be captured") == 1


def test_a_second_capture_works_after_one_that_failed() -> None:
    """A wait inside a capture breaks it; stream, memory pool and random generator are usable afterwards."""
    record, x = cuda_graph(torch.device("cuda:0")), torch.zeros(4, device="cuda")
    before = torch.cuda.current_stream()
    with pytest.raises(CaptureFailed):
        record(lambda: print(float(x.add_(1.0)[0])))
    assert torch.cuda.current_stream() == before
    torch.rand(3, device="cuda")
    x.zero_()
    replay = record(lambda: x.add_(1.0))
    x.zero_()
    replay()
    assert x.tolist() == [1.0] * 4


def test_compiled_trains_the_same_twice(tmp_path: Path, precision: str) -> None:
    """With compiled blocks two trainings are the same bits, and near the uncompiled one."""
    pytest.importorskip("triton")
    if not has_flash(torch.device("cuda:0")):
        pytest.skip("not compiled on this GPU")
    runs = []
    for compiled in (True, True, False):
        made = finished(tmp_path / str(len(runs)), "captured", precision, compile=compiled, dropout=0.0, **GPU)
        assert made.resumed == 0
        captured(made)
        assert made.net.compiled is compiled
        runs.append(made)
    same(state(runs[0])["weights"], state(runs[1])["weights"])
    last = [made.history.training[-1]["train_loss"] for made in runs]
    assert last[0] == pytest.approx(last[2], rel=1e-2)


@pytest.fixture
def _small_gpu() -> Iterator[None]:
    """A GPU with 1 % of its memory."""
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(0.01)
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)
    torch.cuda.empty_cache()


@pytest.mark.usefixtures("_small_gpu")
def test_out_of_memory_gives_the_numbers(tmp_path: Path) -> None:
    """Out of GPU memory: how much was wanted, what is in use of how much, and which key to lower."""
    sizes = {"block_size": 1024, "batch_size": 700, "stride": 1, "grad_accumulation": 1}
    made = trainer(tmp_path, "eager", "fp32", **GPU, **sizes)
    numbers = r"\([\d.]+ [GM]iB more wanted, [\d.]+ GiB in use of [\d.]+ GiB\)"
    with made.checkpoints, pytest.raises(UserError, match=rf"out of memory in training {numbers}: lower batch_size"):
        made.fit(Stop())


# -- the parts of a step ------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "near"), [("fp32", 2e-3), ("auto", 3e-2)])
def test_the_head_is_the_cpus(kind: str, near: float, precision: str) -> None:
    """Loss and gradients of a network with GPT-2's vocabulary are the CPU's in float32, within the precision's rounding."""
    kind = precision if kind == "auto" else kind
    torch.manual_seed(0)
    net = GPT2(GPT2Config(50_257, block_size=64, n_layer=2, n_head=2, n_embd=64))
    tokens = torch.randint(50_257, (8, 65))
    found = []
    for device in ("cpu", "cuda"):
        net.to(device).zero_grad()
        with torch.autocast(device, machine.DTYPES[kind], enabled=device == "cuda" and kind != "fp32"):
            loss = net.loss(tokens[:, :-1].to(device), tokens[:, 1:].to(device))
        loss.backward()
        found.append((loss.item(), torch.cat([p.grad.flatten().cpu() for p in net.parameters() if p.grad is not None])))
    (exact, expected), (loss_here, gradient) = found
    assert loss_here == pytest.approx(exact, rel=near / 10)
    assert (gradient - expected).norm() < near * expected.norm()


def test_attention_by_hand_is_pytorchs() -> None:
    """What a GPU without the flash kernel computes is PyTorch's attention, with its gradient, in float16."""
    torch.manual_seed(0)
    qkv = torch.randn(3, 2, 4, 150, 16, device="cuda")
    exact = attention(*(wide := qkv.clone().requires_grad_()))
    by_hand = AttentionByHand.apply(*(half := qkv.half().requires_grad_()), True, 0.0)  # type: ignore[no-untyped-call]
    torch.testing.assert_close(by_hand.float(), exact, atol=5e-3, rtol=5e-3)
    weights = torch.randn_like(exact)
    (exact * weights).sum().backward()
    (by_hand.float() * weights).sum().backward()
    torch.testing.assert_close(half.grad.float(), wide.grad, atol=2e-2, rtol=2e-2)


def test_the_limit_is_measured() -> None:
    """The matrix limit is a GPU's: between 1 and 10,000 TFLOP/s, and it leaves no trace in the peak of memory."""
    limit = machine.matrix_limit("cuda", machine.pick_precision("auto", "cuda"))
    assert 1e12 < limit < 1e16
    assert torch.cuda.max_memory_allocated() == torch.cuda.memory_allocated()


def test_float32_attention_needs_no_square_of_memory() -> None:
    """In float32, and beyond 1,024 tokens on GPUs without flash, the exact kernel is one whose memory grows with T."""
    qkv = torch.randn(3, 1, 1, 16_384, 64, device="cuda", requires_grad=True)
    torch.cuda.reset_peak_memory_stats()
    attention(*qkv).sum().backward()
    assert torch.cuda.max_memory_allocated() < 16_384**2 * 4 / 2
