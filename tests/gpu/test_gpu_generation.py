"""Generation on a GPU: the recorded steps write what the CPU writes, and faster than step by step."""

from __future__ import annotations

import time
from typing import Any

import pytest
import torch
from networks import random_network

from model import GPT2, GPT2Config, captured_decoder, generate
from model.captured_decoder import Writer, can_capture
from model.choice import Choice

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]
SHAPE: dict[str, Any] = {"vocab_size": 500, "block_size": 32, "n_layer": 3, "n_head": 4, "n_embd": 64}


def make(**changes: Any) -> GPT2:
    """A network with large random weights."""
    return random_network(SHAPE | changes, noise=0.1)


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
    assert can_capture(net, Choice(*settings), seeded(rows))
    assert torch.equal(generate(net, start.cuda(), 60, *settings, generator=seeded(rows), stop=7).cpu(), expected)


def test_steps_are_recorded(capsys: pytest.CaptureFixture[str]) -> None:
    """No warning that the recording failed, and the second text is written by the same writer."""
    net, start = make().cuda(), torch.zeros(5, 3, dtype=torch.int64, device="cuda")
    generate(net, start, 50, generator=seeded(5))
    writer = captured_decoder._latest[net][1]
    generate(net, start, 50, generator=seeded(5))
    assert captured_decoder._latest[net][1] is writer
    assert len(writer._recorded) == 2
    assert capsys.readouterr().err == ""


def test_a_failed_recording_goes_on(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Where no graph can be made, one line says so and the text is the same."""
    net, start = make().cuda(), torch.zeros(2, 3, dtype=torch.int64, device="cuda")
    expected = generate(net, start, 20, generator=seeded(2))

    def fail(*args: Any) -> Any:
        raise RuntimeError("no graph today\nmore")

    monkeypatch.setattr(torch.cuda, "CUDAGraph", fail)
    captured_decoder._latest.clear()
    assert torch.equal(generate(net, start, 20, generator=seeded(2)), expected)
    assert capsys.readouterr().err == "generation runs without a CUDA graph, more slowly (no graph today)\n"


def test_recorded_steps_are_faster() -> None:
    """At the default's shape 1,500 steps per second and more; without a graph it is some 400."""
    net = GPT2(GPT2Config(vocab_size=2_517, block_size=128, n_layer=12, n_head=12, n_embd=96)).eval().cuda()
    start = torch.zeros(5, 5, dtype=torch.int64, device="cuda")
    generate(net, start, 100, generator=seeded(5))
    times = []
    for _ in range(3):
        begin = time.perf_counter()
        generate(net, start, 100, generator=seeded(5)).cpu()
        times.append(time.perf_counter() - begin)
    assert 100 / min(times) > 1_500


@torch.inference_mode()
def test_no_step_asks_the_device() -> None:
    """torch's own sync detector finds nothing in a step."""
    for choice in (Choice(0.0), Choice(), Choice(1.0, 9, 0.9)):
        writer = Writer(make().cuda(), 2, choice, stop=7)
        writer._begin(torch.zeros(2, 31, dtype=torch.int64, device="cuda"))
        torch.cuda.set_sync_debug_mode("error")
        try:
            writer._grow()
            writer._slide()
        finally:
            torch.cuda.set_sync_debug_mode("default")
