"""What the page says that the network expects is what the network expects."""

from __future__ import annotations

import pytest
import torch
from tiny import network

from stages.common.errors import UserError
from stages.explanation.predictions import log_probabilities, rank


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
        log_probabilities(net, torch.tensor([0, 3, 7]))
