"""The GPU's benchmark of training, run on the CPU at a size that takes no time: only the device differs."""

from __future__ import annotations

import os
import sys
from typing import Any

import interpreter
import pytest
import torch

from benchmarks import train, train_cuda
from benchmarks.train_cuda import SIDES, Shape

TINY = Shape(layers=1, heads=2, width=16, vocabulary=40, batch=2, context=8)


def test_every_side_takes_steps_and_gets_a_row() -> None:
    """All four sides run and are compared; the ratio of a side to itself is 1."""
    with torch.compiler.set_stance("force_eager"):  # the same calls without the minutes of compiling
        sides, peaks = train_cuda.prepare(TINY, "cpu", "fp32", steps=2)
        times = train_cuda.measure(sides, "cpu", rounds=2, steps=2)
        assert all(count >= 0 for side in sides.values() for count in train_cuda.calls(side, "cpu", steps=1))
    assert list(sides) == list(SIDES)
    assert all(len(each) == 2 and min(each) > 0 for each in times.values())
    rows = [row.split(" | ") for row in train_cuda.speed_rows(TINY, times, peaks, limit=1e12)]
    assert [row[1] for row in rows] == list(SIDES)
    assert {len(row) for row in rows} == {8}
    assert [rows[2][4], rows[3][5]] == ["1", "1"]


def test_a_side_that_fails_is_a_dash(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Where theirs cannot be compiled, the others are measured all the same and the reason is reported."""

    def fails(*args: Any, **options: Any) -> None:
        raise RuntimeError("no compiler here\nand a long trace")

    monkeypatch.setattr(torch, "compile", fails)
    monkeypatch.setitem(SIDES, "ours, compiled", SIDES["ours, uncompiled"])
    sides, peaks = train_cuda.prepare(TINY, "cpu", "fp32", steps=1)
    assert list(sides) == [name for name in SIDES if name != "theirs, compiled"]
    assert "theirs, compiled at 1/2/16, 40, 2 x 8: failed (no compiler here)\n" in capsys.readouterr().err
    times = train_cuda.measure(sides, "cpu", rounds=1, steps=1)
    rows = train_cuda.speed_rows(TINY, times, peaks, limit=1e12)
    assert rows[3].count("–") == 6
    assert rows[0].split(" | ")[5] == "–", "nothing to compare with"
    assert rows[0].count("|") == rows[3].count("|") == 9


def test_their_side_has_every_kernel_and_ours_the_exact_ones() -> None:
    """What `prefer_exact_cuda` switches off is on while theirs runs, and off again afterwards."""
    cuda = torch.backends.cuda
    modes = (cuda.cudnn_sdp_enabled, cuda.mem_efficient_sdp_enabled, lambda: not torch.are_deterministic_algorithms_enabled())
    before = cuda.cudnn_sdp_enabled(), cuda.mem_efficient_sdp_enabled()
    try:
        cuda.enable_cudnn_sdp(False)
        cuda.enable_mem_efficient_sdp(False)
        torch.use_deterministic_algorithms(True)
        with train_cuda.any_kernel():
            assert all(mode() for mode in modes)
        assert not any(mode() for mode in modes)
    finally:
        torch.use_deterministic_algorithms(False)
        cuda.enable_cudnn_sdp(before[0])
        cuda.enable_mem_efficient_sdp(before[1])


def test_calls_are_told_apart() -> None:
    """Launches and waits are counted by the names of CUDA's functions, whatever version these carry; copies are neither."""
    events = [("cudaLaunchKernel", 5), ("cuLaunchKernelEx", 3), ("cudaLaunchKernelExC_v11060", 2), ("cudaGraphLaunch", 1)]
    events += [("cudaStreamSynchronize", 4), ("cudaDeviceSynchronize_v3020", 1), ("cudaEventSynchronize", 1), ("cudaMemcpy", 1)]
    events += [("cudaMemcpyAsync", 9), ("aten::mm", 9), ("cudaMemsetAsync", 9), ("cudaEventQuery", 9)]
    assert train_cuda.count_calls(events) == (11, 7)


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """One message, no traceback, and a wrong size ends before any work."""
    done = interpreter.run(["-m", "benchmarks.train", "--device", "cuda"], train_cuda.ROOT, os.environ)
    assert done.returncode == 1
    assert done.stderr.startswith("error: device: cuda is not here")
    assert "Traceback" not in done.stderr
    monkeypatch.setattr(sys, "argv", ["train", "--device", "cuda", "--sizes", "tiny"])
    with pytest.raises(SystemExit, match="2"):
        train.main()
    assert "tiny is not one of small, small-1024, default" in capsys.readouterr().err
