"""The guards at work: networks trained on pure chance, whose true perplexity everybody knows."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from tiny import token_file

from model import GPT2, GPT2Config
from stages import evaluate
from stages.evaluation.future_leak import future_leak
from stages.evaluation.scoring import score

SIDES, LENGTH, CONTEXT = 8, 20, 16  # a die's, a story's throws, tokens


@pytest.mark.slow
@pytest.mark.parametrize("causal", [True, False])
def test_only_a_network_that_looks_ahead_beats_chance(causal: bool) -> None:
    """Throws of a die have perplexity 8, minus the sure end of a story. With the mask a network comes near and never below;
    without it, the same training beats chance, and the guards say so."""
    generator = np.random.default_rng(0)
    train, validation = (token_file(generator.integers(1, SIDES + 1, (count, LENGTH)).tolist()) for count in (2_000, 100))
    torch.manual_seed(0)
    net = GPT2(GPT2Config(vocab_size=SIDES + 1, block_size=CONTEXT, n_layer=1, n_head=1, n_embd=32, causal=causal))
    optimizer = torch.optim.AdamW(net.parameters(), 1e-2)
    for _ in range(300):
        starts = generator.integers(0, len(train) - CONTEXT, 32)[:, None]
        windows = torch.from_numpy(train.stream[starts + np.arange(CONTEXT + 1)].astype(np.int64))
        optimizer.zero_grad()
        net.loss(windows[:, :-1], windows[:, 1:]).backward()
        optimizer.step()
    sums = score(net.eval(), validation, 8)
    found = evaluate.floor(sums, np.full(validation.stories, -LENGTH * math.log(SIDES)))
    if causal:
        assert future_leak(net, validation) == 0.0
        assert found["below_floor"] == 0
        assert 1.0 < found["floor_ratio"] < 1.3
    else:
        assert future_leak(net, validation) > 1.0
        assert found["below_floor"] == 1
        assert found["floor_ratio_high"] < 0.7
