"""Evaluation on a GPU: the CPU's numbers for any batch size, from a small part of the memory."""

from __future__ import annotations

import pytest
import torch
from tiny import random_stories, token_file

from model import GPT2, GPT2Config
from stages.evaluation import scoring
from stages.evaluation.future_leak import future_leak
from stages.evaluation.scoring import score

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


def make(causal: bool = True, vocab_size: int = 1_000) -> GPT2:
    """A network whose predictions depend on the context."""
    torch.manual_seed(0)
    net = GPT2(GPT2Config(vocab_size, block_size=64, n_layer=3, n_head=4, n_embd=64, causal=causal))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    return net.eval()


@pytest.mark.parametrize("batch", [1, 7, 64, None])
def test_losses_on_a_gpu_are_the_cpu_s(batch: int | None) -> None:
    """Mean nats agree with the CPU's float32 within 1e-4, whatever the batch."""
    split = token_file(random_stories(300))
    expected = score(make(), split, 32).nll.sum() / len(split)
    assert score(make().cuda(), split, 32, batch=batch).nll.sum() / len(split) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("vocab_size", [1_000, 1_024])
def test_predictions_on_a_gpu_are_the_cpu_s(vocab_size: int) -> None:
    """Losses and confidence within float16's rounding, and the same hits, whether or not the head has to be padded."""
    windows = torch.randint(0, 1_000, (40, 65), generator=torch.Generator().manual_seed(1))
    net = make(vocab_size=vocab_size)
    exact = scoring.Predictor(net)(windows)
    half = scoring.Predictor(net.cuda())(windows)
    torch.testing.assert_close(half[0], exact[0], atol=2e-2, rtol=1e-3)
    torch.testing.assert_close(half[1], exact[1], atol=2e-3, rtol=1e-2)
    assert float((half[2] == exact[2]).float().mean()) > 0.99


def test_overflow_falls_back_to_float32() -> None:
    """Activations beyond float16's range are scored in float32 and give the CPU's loss."""
    split, net = token_file(random_stories(50)), make()
    with torch.no_grad():
        net.h[0].mlp.c_fc.weight.mul_(1e4)
        net.h[0].mlp.c_proj.weight.mul_(1e2)
    expected = score(net, split, 32).nll
    assert score(net.cuda(), split, 32).nll == pytest.approx(expected, rel=1e-3)


def test_batches_fit_small_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """With 64 MB free the batches are small, and the numbers the same."""
    split = token_file(random_stories(300))
    expected = score(make().cuda(), split, 32).nll.sum() / len(split)
    monkeypatch.setattr(scoring, "_free_bytes", lambda device: 64 << 20)
    net = make().cuda()
    assert scoring.batch_tokens(net) < scoring.GPU_BATCH_TOKENS
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    assert score(net, split, 32).nll.sum() / len(split) == pytest.approx(expected, abs=1e-4)
    assert torch.cuda.max_memory_allocated() - before < 64 << 20


def test_a_masked_network_never_looks_ahead() -> None:
    """Exactly 0 with the mask, large without it."""
    split = token_file(random_stories(30))
    assert future_leak(make().cuda(), split) == 0.0
    assert future_leak(make(causal=False).cuda(), split) > 0.01
