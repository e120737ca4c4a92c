"""The attention weights that are shown are those that the network uses."""

from __future__ import annotations

import pytest
import torch
from tiny import network

from stages.explanation.attention_weights import attention_weights


@pytest.mark.parametrize("causal", [True, False])
def test_weights_are_the_ones_used(causal: bool) -> None:
    """The shares add up to 1, those of later tokens are exactly 0 with the mask, and with them come the block's own outputs."""
    net = network(0.5, causal=causal)
    values, outputs = [], []
    for block in net.h:
        block.attn.register_forward_pre_hook(lambda attn, args: values.append(attn.heads(args[0])[2]))
        block.attn.c_proj.register_forward_hook(lambda module, args, y: outputs.append(args[0]))
    weights = attention_weights(net, torch.randint(20, (1, 16)))
    assert weights.shape == (2, 2, 16, 16)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 2, 16))
    assert bool((weights.triu(1) == 0).all()) is causal
    for share, value, output in zip(weights, values, outputs, strict=True):
        torch.testing.assert_close((share[None] @ value).transpose(1, 2).flatten(2), output)
