"""Sampling table: what it takes to redraw a distribution at any temperature without its whole vocabulary."""

from __future__ import annotations

import torch
from torch import Tensor

TEMPERATURES = tuple(step / 10 for step in range(1, 21))  # those of the page's slider; 0 is the likeliest token alone


def sampling_table(log_probabilities: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """The k likeliest tokens of each place, and the weight of all others together at each temperature.

    At temperature t a token's weight is p^(1/t), and its probability is that over the sum of all weights, which is the sum of
    the k tokens' and of the rest's: so the page gives the exact probabilities.

    Args:
        log_probabilities: (N, V).
        k: tokens kept; all of them if the vocabulary is smaller.

    Returns:
        tokens (N, k), likeliest first; their -log p (N, k); -log of the rest's weight (N, temperatures), inf if there is none.
    """
    k = min(k, log_probabilities.size(-1))
    best, tokens = log_probabilities.topk(k)
    others = log_probabilities.double().scatter(-1, tokens, -torch.inf)
    rest = torch.stack([-(others / t).logsumexp(-1) for t in TEMPERATURES], -1)
    return tokens, -best, rest
