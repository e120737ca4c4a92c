"""What the page says that the network expects is what the network expects."""

from __future__ import annotations

import pytest
import torch
from tiny import network

from stages.common.errors import UserError
<<<<<<< HEAD
from stages.explanation.predictions import log_probabilities, rank
=======
from stages.explanation.logit_lens import logit_lens
from stages.explanation.predictions import log_probabilities, log_probabilities_at_once, rank
from stages.explanation.sampling_table import TEMPERATURES, sampling_table

TOKENS = torch.tensor([0, 3, 7, 7, 1, 12, 3])


@pytest.mark.parametrize("causal", [True, False])
def test_each_place_sees_only_the_text_before_it(causal: bool) -> None:
    """Each place's distribution is that of the text up to it, whatever comes later."""
    net = network(causal=causal)
    found = log_probabilities(net, TOKENS)
    for end in range(1, len(TOKENS) + 1):
        with torch.no_grad():
            torch.testing.assert_close(found[end - 1], net(TOKENS[None, :end])[0, -1].log_softmax(-1), atol=1e-5, rtol=1e-5)


def test_at_once_a_network_without_mask_sees_the_rest() -> None:
    """With the mask it makes no difference; without it the whole text decides."""
    masked, open_ = network(), network(causal=False)
    torch.testing.assert_close(
        log_probabilities_at_once(masked, TOKENS), log_probabilities(masked, TOKENS), atol=1e-5, rtol=1e-5
    )
    assert (log_probabilities_at_once(open_, TOKENS) - log_probabilities(open_, TOKENS)).abs().max() > 0.1


@pytest.mark.parametrize("position", ["learned", "sinusoidal"])
def test_only_the_position_table_is_taken_away(position: str) -> None:
    """All that is taken away is the position table, and afterwards it is there again."""
    net = network()
    object.__setattr__(net.config, "position", position)
    table = net.wpe.weight.detach().clone()
    found = log_probabilities_at_once(net, TOKENS, positions=False)
    assert torch.equal(net.wpe.weight, table)
    with torch.no_grad():
        net.wpe.weight.zero_()
        torch.testing.assert_close(found, net(TOKENS[None])[0].log_softmax(-1))
        assert not torch.equal(table, net.wpe.weight)
>>>>>>> suite


def test_equally_likely_tokens_share_a_rank() -> None:
    """The likeliest token has rank 1; equally likely ones share theirs; nats are -log p."""
    p = torch.tensor([[0.5, 0.2, 0.2, 0.1], [0.1, 0.6, 0.1, 0.2]])
    found = rank(p.log(), torch.tensor([2, 0]), 2)
    assert found.rank.tolist() == [2, 3]
    torch.testing.assert_close(found.nats.neg().exp(), torch.tensor([0.2, 0.1]))
    assert found.tokens.tolist()[1] == [1, 3]
    torch.testing.assert_close(found.token_nats.neg().exp(), torch.tensor([[0.5, 0.2], [0.6, 0.2]]))
    assert rank(p.log(), torch.tensor([0, 0]), 99).tokens.shape == (2, 4)


<<<<<<< HEAD
=======
def test_logit_lens_ends_with_the_output() -> None:
    """There is one layer more than blocks; the first is the head on the embeddings, the last is the network's own output."""
    net = network()
    layers = list(logit_lens(net, TOKENS))
    assert len(layers) == net.config.n_layer + 1
    with torch.no_grad():
        torch.testing.assert_close(layers[-1], net(TOKENS[None])[0].log_softmax(-1))
        embedded = net.wte(TOKENS) + net.positions()[: len(TOKENS)]
        torch.testing.assert_close(layers[0], net.lm_head(net.ln_f(embedded)).log_softmax(-1))
        after_one = net.h[0](embedded[None])[0]
        torch.testing.assert_close(layers[1], net.lm_head(net.ln_f(after_one)).log_softmax(-1), atol=1e-5, rtol=1e-5)
    assert not any(block._forward_hooks or block._forward_pre_hooks for block in net.h)


@pytest.mark.parametrize("k", [3, 20, 99])
def test_sampling_table_gives_every_temperature(k: int) -> None:
    """The kept tokens' weights and their share together give the exact probabilities, as the page works them out."""
    log_p = torch.randn(5, 20, generator=torch.Generator().manual_seed(0)).log_softmax(-1)
    tokens, nats, shares = sampling_table(log_p, k)
    for column, t in enumerate(TEMPERATURES):
        exact = (log_p / t).softmax(-1)
        weights = (-nats / t).exp()
        found = weights / weights.sum(-1, keepdim=True) * (-shares[:, column, None]).exp().float()
        torch.testing.assert_close(found, exact.gather(1, tokens), atol=1e-5, rtol=1e-4)


>>>>>>> suite
def test_weights_that_are_not_finite_are_refused() -> None:
    """Damaged weights give a message, not a page of nonsense."""
    net = network()
    with torch.no_grad():
        net.ln_f.weight.fill_(float("nan"))
    with pytest.raises(UserError, match="not finite"):
        log_probabilities(net, torch.tensor([0, 3, 7]))
