"""Batches: each token once, whatever the shapes, and nothing remembered from step to step."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.loss import IGNORE
from stages.training.batches import Batches, permute, seed_step


def _batches(tokens: int, **changes: int) -> Batches:
    options = {"block_size": 8, "stride": 8, "batch_size": 3, "accumulation": 2, "seed": 1} | changes
    return Batches(np.arange(tokens, dtype=np.uint16), **options)


def test_permutation_needs_no_memory() -> None:
    """A few places of a permutation of 10^12 cost a few operations; another key gives another order."""
    some = np.arange(10**11, 10**11 + 8)
    first, second = permute(some, 10**12, 1), permute(some, 10**12, 2)
    assert len(set(first.tolist())) == 8
    assert first.tolist() != second.tolist()
    assert ((first >= 0) & (first < 10**12)).all()


def test_order_is_shuffled() -> None:
    """Neighboring windows do not stay neighbors, and each epoch has its own order."""
    order = permute(np.arange(1000), 1000, 5)
    assert np.mean(np.abs(np.diff(order)) == 1) < 0.02
    assert abs(np.corrcoef(np.arange(1000), order)[0, 1]) < 0.15
    batches = _batches(1000)
    assert batches.starts(0).tolist() != batches.starts(batches.steps_per_epoch).tolist()


@given(
    tokens=st.integers(2, 400),
    block=st.integers(1, 40),
    share=st.floats(0, 1),
    batch=st.integers(1, 7),
    accumulation=st.integers(1, 4),
    processes=st.integers(1, 4),
    epoch=st.integers(0, 3),
)
@settings(max_examples=80, deadline=None)
def test_each_token_is_a_target_once_an_epoch(
    tokens: int, block: int, share: float, batch: int, accumulation: int, processes: int, epoch: int
) -> None:
    """An epoch scores every token but the first, over any number of processes: with stride = block_size exactly once, with a
    smaller stride at least once."""
    stride = 1 + round(share * (block - 1))
    batches = _batches(tokens, block_size=block, stride=stride, batch_size=batch, accumulation=accumulation)
    seen: list[int] = []
    for step in range(batches.steps_per_epoch):
        starts = batches.starts(epoch * batches.steps_per_epoch + step)
        scored = 0
        for rank in range(processes):
            for mine in batches.split_for_rank(starts, rank, processes):
                inputs, targets = batches.read(mine)
                kept = targets != IGNORE
                assert (inputs[kept] + 1 == targets[kept]).all()
                seen += targets[kept].tolist()
                scored += int(kept.sum())
        assert scored == batches.scored(starts)
    assert set(seen) == set(range(1, tokens))
    assert stride < block or len(seen) == tokens - 1


@pytest.mark.parametrize("processes", [1, 2])
def test_padded_steps_have_one_shape(processes: int) -> None:
    """With `padded` all steps of an epoch have micro-batches of the same shape, and score the same targets as without."""
    plain, padded = _batches(300), _batches(300, padded=True)
    shapes = set()
    for step in range(padded.steps_per_epoch):
        starts = padded.starts(step)
        scored = 0
        for rank in range(processes):
            windows = [padded.read(part, processes) for part in padded.split_for_rank(starts, rank, processes)]
            shapes.add(tuple(tokens.shape for tokens, _ in windows))
            scored += sum(int((targets != IGNORE).sum()) for _, targets in windows)
        assert scored == plain.scored(plain.starts(step))
    assert shapes == {((-(-3 // processes), 8),) * 2}


def test_dropout_is_seeded_by_step_and_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same step and process draw the same numbers, others draw others; a GPU's generator gets the seed too."""
    drawn = []
    for step, rank in ((3, 0), (4, 0), (3, 1), (3, 0)):
        seed_step(7, step, rank, torch.device("cpu"))
        drawn.append(torch.rand(4).tolist())
    assert drawn[0] == drawn[3]
    assert len({tuple(numbers) for numbers in drawn}) == 3
    seeds: list[int] = []
    monkeypatch.setattr(torch.cuda, "manual_seed", seeds.append)
    seed_step(7, 3, 0, torch.device("cuda"))
    assert seeds == [torch.initial_seed()]
