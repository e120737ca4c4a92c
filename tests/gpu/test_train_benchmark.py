"""The GPU's benchmark of training, at a size that takes no time."""

from __future__ import annotations

import pytest
import torch

from benchmarks import train

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")]


def test_every_side_of_the_benchmark_works() -> None:
    """Ours and theirs, compiled or not, give a row each, with a ratio to both of theirs."""
    rows = train.compare("tiny", list(train.SIDES), "cuda", "auto", rounds=2, seconds=0.1)
    assert [row[1] for row in rows] == list(train.SIDES)
    assert not [row for row in rows if "–" in row]
