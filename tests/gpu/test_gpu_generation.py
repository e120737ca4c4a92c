"""Generation on a GPU: the recorded steps write what the CPU writes, and faster than step by step."""

from __future__ import annotations

import time
from typing import Any

import pytest
import torch
from tiny import network

from model import GPT2, GPT2Config, generate
from model.generation import Step, stream
from model.sampling import SamplingParams
from stages.compute.cuda_graph import cuda_graph

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]
SHAPE: dict[str, Any] = {"vocab_size": 500, "block_size": 32, "n_layer": 3, "n_head": 4, "n_embd": 64}


def record() -> Any:
    """Recording on this GPU."""
    return cuda_graph(torch.device("cuda"))


def make(**changes: Any) -> GPT2:
    """A network with large random weights."""
    return network(**(SHAPE | changes), noise=0.1)


def seeded(rows: int) -> list[torch.Generator]:
    """A generator on the CPU for each row."""
    return [torch.Generator().manual_seed(row) for row in range(rows)]


@pytest.mark.parametrize("settings", [(0.0, None, None), (1.0, None, None), (0.8, 9, None), (1.2, 50, 0.9), (1.0, None, 0.9)])
@pytest.mark.parametrize("length", [1, 7, 32, 50])
@pytest.mark.parametrize("rows", [1, 5])
def test_the_cpu_s_text(settings: tuple[float, int | None, int | None], length: int, rows: int) -> None:
    """The same tokens as on the CPU, within the context and past it, with a stop token."""
    net = make()
    start = torch.randint(0, 500, (rows, length), generator=torch.Generator().manual_seed(1))
    expected = generate(net, start, 60, *settings, generator=seeded(rows), stop=7)
    net.cuda()
    made = generate(net, start.cuda(), 60, *settings, generator=seeded(rows), stop=7, record=record())
    assert torch.equal(made.cpu(), expected)


def test_recorded_steps_are_faster() -> None:
    """At the default's shape a step of the recorded text takes a third of the time of the plain one's at most."""
    net = GPT2(GPT2Config(vocab_size=2_517, block_size=128, n_layer=12, n_head=12, n_embd=96)).eval().cuda()
    start = torch.zeros(5, 5, dtype=torch.int64, device="cuda")

    def seconds(count: int, recorder: Any) -> float:
        torch.cuda.synchronize()
        begin = time.perf_counter()
        generate(net, start, count, generator=seeded(5), record=recorder).cpu()
        return time.perf_counter() - begin

    seconds(20, None), seconds(20, record())
    plain = min(seconds(110, None) - seconds(10, None) for _ in range(3))
    recorded = min(seconds(110, record()) - seconds(10, record()) for _ in range(3))
    assert recorded < plain / 3


@pytest.mark.parametrize("vocab_size", [500, 5_000])
@pytest.mark.parametrize("params", [(0.0,), (1.0,), (1.0, 9, 0.9), (1.0, None, 0.9)])
def test_no_step_asks_the_device(params: Any, vocab_size: int) -> None:
    """torch's own sync detector finds nothing in a step, a sort of a large vocabulary included."""
    recorded = []

    def watched(step: Step) -> Step:
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
