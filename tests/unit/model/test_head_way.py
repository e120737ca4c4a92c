"""The head's chunk follows what really runs: a compiled kernel takes larger ones than an uncompiled one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny import network

from model import gpt2
from model.loss import COMPILED_LOGITS, GPU, HeadWay


def test_uncompiled_the_head_takes_small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a network compiled for a GPU, a loss that runs uncompiled (validation, a failed capture) is not made of the compiled
    kernel's chunks, whose every operation would keep a result of gigabytes."""
    ways: list[HeadWay | None] = []

    def note(*args: Any) -> torch.Tensor:
        ways.append(args[-1])
        return torch.zeros(())

    monkeypatch.setattr(gpt2, "head_loss", note)
    net, tokens = network(), torch.zeros(1, 8, dtype=torch.int64)
    net.compiled, net._head_way = True, GPU._replace(logits=COMPILED_LOGITS)
    net.loss(tokens, tokens)
    with net.uncompiled():
        net.loss(tokens, tokens)
    net.loss(tokens, tokens)
    assert [way and way.logits for way in ways] == [COMPILED_LOGITS, None, COMPILED_LOGITS]
    assert GPU.logits * 4 == COMPILED_LOGITS
