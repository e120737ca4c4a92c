"""What the page says that the network expects is what the network expects."""

from __future__ import annotations

import pytest
import torch
from tiny import network

from stages.common.errors import UserError
from stages.explanation.predictions import logit_lens, rank

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


def test_equally_likely_tokens_share_a_rank() -> None:
    """The likeliest token has rank 1; equally likely ones share theirs; nats are -log p."""
    p = torch.tensor([[0.5, 0.2, 0.2, 0.1], [0.1, 0.6, 0.1, 0.2]])
    found = rank(p.log(), torch.tensor([2, 0]), 2)
    assert found.rank.tolist() == [2, 3]
    torch.testing.assert_close(found.nats.neg().exp(), torch.tensor([0.2, 0.1]))
    assert found.tokens.tolist()[1] == [1, 3]
    torch.testing.assert_close(found.token_nats.neg().exp(), torch.tensor([[0.5, 0.2], [0.6, 0.2]]))
    assert rank(p.log(), torch.tensor([0, 0]), 99).tokens.shape == (2, 4)


def test_weights_that_are_not_finite_are_refused() -> None:
    """Damaged weights give a message, not a page of nonsense."""
    net = network()
    with torch.no_grad():
        net.ln_f.weight.fill_(float("nan"))
    with pytest.raises(UserError, match="not finite"):
        list(logit_lens(net, TOKENS))
