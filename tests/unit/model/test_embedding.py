"""The embedding's gradient on a GPU avoids PyTorch's kernel with a race."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from model.gpt2 import RACE, embed


@pytest.mark.parametrize("shape", [(2, 1_008), (1, 2_017), (20, 128), (3, 1_024), (1, 3_073)])
def test_embeddings_avoid_the_kernel_with_a_race(shape: tuple[int, int]) -> None:
    """For a number of tokens with which PyTorch's gradient on a GPU has a race, more are looked up; rows and gradient are the
    same bits."""
    torch.manual_seed(0)
    weight, tokens = torch.randn(50, 4, requires_grad=True), torch.randint(50, shape)
    looked_up: list[int] = []
    gradients = []
    for padded in (False, True):
        rows = embed(tokens, weight, padded)
        assert torch.equal(rows, weight[tokens])
        node: Any = rows.grad_fn
        while "Embedding" not in node.name():
            node = node.next_functions[0][0]
        looked_up.append(node._saved_indices.numel())
        (rows * torch.arange(rows.numel()).view(rows.shape).cos()).sum().backward()
        assert weight.grad is not None
        gradients.append(weight.grad)
        weight.grad = None
    assert torch.equal(*gradients)
    count = tokens.numel()
    assert looked_up == [count, RACE[-1] + 1 if count in RACE else count]
