"""Recording that fails leaves no trace, tried with a GPU that is not there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import pytest
import torch

from stages.compute.cuda_graph import CaptureFailed, cuda_graph, recorded_or_plain

DEVICE = torch.device("cuda:0")


class FakeStream:
    """A stream that has nothing to wait for."""

    def wait_stream(self, other: object) -> None:
        """Return at once."""


class FakeGpu:
    """The calls of torch.cuda that recording makes.

    Attributes:
        current: the current stream.
        pools: the memory pool of each capture.
        fails: how many captures are still to fail at their end, which leaves their stream current, as PyTorch's do.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.current, self.pools, self.fails = FakeStream(), [], 0
        self.first = self.current
        handles = count()
        calls: dict[str, Any] = {
            "Stream": lambda device: FakeStream(),
            "current_stream": lambda device: self.current,
            "set_stream": lambda stream: setattr(self, "current", stream),
            "graph_pool_handle": lambda: next(handles),
            "stream": self.stream,
            "graph": self.graph,
            "CUDAGraph": type("Graph", (), {"replay": lambda graph: None}),
            "synchronize": lambda device: None,
            "empty_cache": lambda: None,
        }
        for name, call in calls.items():
            monkeypatch.setattr(torch.cuda, name, call)

    @contextmanager
    def stream(self, stream: FakeStream) -> Iterator[None]:
        before, self.current = self.current, stream
        yield
        self.current = before

    @contextmanager
    def graph(self, graph: object, pool: int, stream: FakeStream, capture_error_mode: str) -> Iterator[None]:
        before, self.current = self.current, stream
        self.pools.append(pool)
        yield
        if self.fails:
            self.fails -= 1
            raise RuntimeError("operation failed due to a previous error during capture\nand more lines")
        self.current = before


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> FakeGpu:
    """A GPU that is not there."""
    return FakeGpu(monkeypatch)


def test_a_failed_capture_leaves_stream_and_pool_behind(gpu: FakeGpu) -> None:
    """Afterwards the stream is the caller's again, and the next attempt has a memory pool of its own."""
    record = cuda_graph(DEVICE)
    gpu.fails = 1
    with pytest.raises(CaptureFailed, match=r"^operation failed due to a previous error during capture$"):
        record(lambda: None)
    assert gpu.current is gpu.first
    record(lambda: None)
    record(lambda: None)
    assert gpu.pools[0] != gpu.pools[1] == gpu.pools[2]


def test_what_cannot_be_recorded_is_called(gpu: FakeGpu, capsys: pytest.CaptureFixture[str]) -> None:
    """Where a step of writing cannot be recorded, one line says so, and the step itself is taken."""
    calls: list[int] = []
    gpu.fails = 1
    step = recorded_or_plain(cuda_graph(DEVICE), "writing a token")(lambda: calls.append(1))
    before = len(calls)
    step()
    assert len(calls) == before + 1
    said = capsys.readouterr().err
    assert said.startswith("warning: writing a token could not be captured (operation failed")
    assert said.count("\n") == 1
