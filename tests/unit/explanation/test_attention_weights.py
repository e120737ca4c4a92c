"""The attention weights that are shown are those that the network uses."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny import network

from model import hf
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


def test_weights_are_transformers_own(tmp_path: Path) -> None:
    """They equal `output_attentions` of transformers' GPT2LMHeadModel on the exported folder."""
    transformers = pytest.importorskip("transformers")
    net = network()
    hf.save(net, tmp_path)
    theirs = transformers.GPT2LMHeadModel.from_pretrained(tmp_path, attn_implementation="eager").eval()
    tokens = torch.randint(20, (1, 13), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = torch.cat(theirs(tokens, output_attentions=True).attentions)
    torch.testing.assert_close(attention_weights(net, tokens), expected, atol=1e-5, rtol=1e-4)
