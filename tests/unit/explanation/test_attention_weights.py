"""The attention weights that are shown are those that the network uses."""

from __future__ import annotations

import pytest
import torch

from model import GPT2, GPT2Config
from model.attention import merge_heads, split_heads
from stages.explanation.attention_weights import attention_weights


@pytest.mark.parametrize("causal", [True, False])
def test_weights_drawn_are_the_ones_used(causal: bool) -> None:
    """The shares add up to 1, those of later tokens are exactly 0 with the mask, and with them come the block's own outputs."""
    torch.manual_seed(0)
    net = GPT2(GPT2Config(50, block_size=16, n_layer=2, n_head=3, n_embd=12, causal=causal)).eval()
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    values, outputs = [], []
    for block in net.h:
        block.attn.c_attn.register_forward_hook(lambda module, args, qkv: values.append(split_heads(qkv, 3)[2]))
        block.attn.c_proj.register_forward_hook(lambda module, args, y: outputs.append(args[0]))
    weights = attention_weights(net, torch.randint(50, (1, 16)))
    assert weights.shape == (2, 3, 16, 16)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 3, 16))
    assert bool((weights.triu(1) == 0).all()) is causal
    for share, value, output in zip(weights, values, outputs, strict=True):
        torch.testing.assert_close(merge_heads(share[None] @ value), output)
