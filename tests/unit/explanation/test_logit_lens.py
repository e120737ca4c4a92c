"""The prediction after each block is the network's own, read early."""

from __future__ import annotations

import torch
from tiny import network

from stages.explanation.logit_lens import logit_lens

TOKENS = torch.tensor([0, 3, 7, 7, 1, 12, 3])


@torch.no_grad()
def test_logit_lens_ends_with_the_output() -> None:
    """There is one layer more than blocks; the first is the head on the embeddings, the last is the network's own output."""
    net = network()
    first, second, last = logit_lens(net, TOKENS)
    x = (net.wte(TOKENS) + net.positions()[: len(TOKENS)])[None]
    for found in (first, second):
        torch.testing.assert_close(found, net.lm_head(net.ln_f(x))[0].log_softmax(-1), atol=1e-5, rtol=1e-5)
        x = net.h[0](x)
    torch.testing.assert_close(last, net(TOKENS[None])[0].log_softmax(-1))
    assert not any(block._forward_hooks or block._forward_pre_hooks for block in net.h)
