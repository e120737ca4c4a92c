"""What the page says that the network expects is what the network expects."""

from __future__ import annotations

import torch

from stages.explanation.predictions import rank


def test_equally_likely_tokens_share_a_rank() -> None:
    """The likeliest token has rank 1; equally likely ones share theirs; nats are -log p."""
    p = torch.tensor([[0.5, 0.2, 0.2, 0.1], [0.1, 0.6, 0.1, 0.2]])
    found = rank(p.log(), torch.tensor([2, 0]), 2)
    assert found.rank.tolist() == [2, 3]
    torch.testing.assert_close(found.nats.neg().exp(), torch.tensor([0.2, 0.1]))
    assert found.tokens.tolist()[1] == [1, 3]
    torch.testing.assert_close(found.token_nats.neg().exp(), torch.tensor([[0.5, 0.2], [0.6, 0.2]]))
    assert rank(p.log(), torch.tensor([0, 0]), 99).tokens.shape == (2, 4)
