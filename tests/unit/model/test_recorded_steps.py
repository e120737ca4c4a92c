"""A step of writing can be recorded as a CUDA graph."""

from __future__ import annotations

import pytest
import torch
from operations import questions
from tiny import network

from model.generation import Step, stream
from model.sampling import SamplingParams


@pytest.mark.parametrize("settings", [(0.0, None, None), (1.0, 9, None), (1.0, 9, 0.9), (1.0, None, 0.9)])
def test_nothing_in_a_recorded_step_asks_the_device(settings: tuple[float, int | None, int | None]) -> None:
    """A step reads no value on the CPU, with top_p and no top_k at 2,000 tokens too: all of it can be recorded."""
    asked: list[str] = []

    def watched(step: Step) -> Step:
        asked.extend(questions(step))
        return step

    net = network(2_000, block_size=16, n_layer=2, n_head=4, n_embd=32)
    generators = [torch.Generator().manual_seed(row) for row in range(2)]
    list(stream(net, torch.zeros(2, 14, dtype=torch.int64), 5, SamplingParams(*settings), generators, 7, watched))
    assert asked == []
