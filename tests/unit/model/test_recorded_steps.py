"""A step of writing can be recorded as a CUDA graph, and is taken as it is where it cannot."""

from __future__ import annotations

import pytest
import torch
from operations import questions
from tiny import network

from model.generation import Step, stream
from model.sampling import SamplingParams
from stages.compute.cuda_graph import CaptureFailed, recorded_or_plain


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


def test_a_step_that_cannot_be_recorded_is_taken_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    """Where a driver cannot record a step of writing, one line says so, and the step itself is taken."""

    def fails(step: Step) -> Step:
        raise CaptureFailed("operation failed")

    calls: list[int] = []
    recorded_or_plain(fails, "writing a token")(lambda: calls.append(1))()
    assert calls == [1]
    said = capsys.readouterr().err
    assert said.startswith("warning: writing a token could not be captured (operation failed)") and said.count("\n") == 1
