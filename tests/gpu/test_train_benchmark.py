"""The GPU's benchmark of training, at a size that takes no time."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from source_tree import ROOT

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")]
TINY = """
from benchmarks import train_cuda

train_cuda.SHAPES["tiny"] = train_cuda.Shape(layers=2, heads=2, width=32, vocabulary=300, batch=4, context=32)
train_cuda.main(["tiny"], rounds=3)
"""


def test_no_side_fails() -> None:
    """Ours and theirs, compiled or not, give both tables, and our step is one launch of a graph without a wait."""
    done = subprocess.run([sys.executable, "-c", TINY], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    rows = [line for line in done.stdout.splitlines() if "| ours, " in line or "| theirs, " in line]
    assert len(rows) == 8
    assert not [row for row in rows if "–" in row], done.stderr
    for row in rows[4:6]:  # a few small kernels bring the inputs into the graph's buffers and take the result out of them
        launches, waits = (float(cell) for cell in row.strip(" |").split(" | ")[2:])
        assert launches < 10
        assert waits == 0.0
