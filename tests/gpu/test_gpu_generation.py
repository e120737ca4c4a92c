"""Generation on a GPU: the recorded steps write what the CPU writes, and faster than step by step."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from tiny import network

from model import generate
from model.generation import ReplayFn, stream
from model.sampling import SamplingParams
from stages.compute.cuda_graph import cuda_graph

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]
SHAPE: dict[str, Any] = {"vocab_size": 500, "block_size": 32, "n_layer": 3, "n_head": 4, "n_embd": 64}
make = partial(network, 0.1, **SHAPE)


def record() -> Any:
    """Recording on this GPU."""
    return cuda_graph(torch.device("cuda"))


def seeded(rows: int) -> list[torch.Generator]:
    """A generator on the CPU for each row."""
    return [torch.Generator().manual_seed(row) for row in range(rows)]


@pytest.mark.parametrize("settings", [(0.0, None, None), (1.0, None, None), (0.8, 9, None), (1.2, 50, 0.9), (1.0, None, 0.9)])
@pytest.mark.parametrize("length", [1, 7, 32, 50])
@pytest.mark.parametrize("rows", [1, 5])
def test_recorded_steps_write_the_cpu_s_text(settings: tuple[float, int | None, int | None], length: int, rows: int) -> None:
    """The same tokens as on the CPU, within the context and past it, with a stop token."""
    net = make()
    start = torch.randint(0, 500, (rows, length), generator=torch.Generator().manual_seed(1))
    expected = generate(net, start, 60, *settings, generator=seeded(rows), stop=7)
    net.cuda()
    made = generate(net, start.cuda(), 60, *settings, generator=seeded(rows), stop=7, record=record())
    assert torch.equal(made.cpu(), expected)


@pytest.mark.parametrize("vocab_size", [500, 5_000])
@pytest.mark.parametrize("params", [(0.0,), (1.0,), (1.0, 9, 0.9), (1.0, None, 0.9)])
def test_no_step_asks_the_device(params: Any, vocab_size: int) -> None:
    """torch's own sync detector finds nothing in a step, a sort of a large vocabulary included."""
    recorded = []

    def watched(step: ReplayFn) -> ReplayFn:
        torch.cuda.set_sync_debug_mode("error")
        try:
            step()
        finally:
            torch.cuda.set_sync_debug_mode("default")
        recorded.append(step.__name__)
        return step

    start = torch.zeros(2, 31, dtype=torch.int64, device="cuda")
    list(stream(make(vocab_size=vocab_size).cuda(), start, 4, SamplingParams(*params), seeded(2), 7, watched))
    assert recorded == ["decode_step", "slide_step"]
