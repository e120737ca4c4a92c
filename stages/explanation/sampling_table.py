"""Sampling table: what it takes to redraw a distribution at any temperature without its whole vocabulary."""

from __future__ import annotations

import torch
from torch import Tensor

TEMPERATURES = tuple(step / 10 for step in range(1, 21))  # those of the page's slider; 0 is the likeliest token alone


def sampling_table(log_probabilities: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """The k likeliest tokens of each place, and the share that they have together at each temperature.

    At temperature t a token's weight is p^(1/t). Its probability is its part of the k tokens' weight times their share: so the
    page gives the exact probabilities.

    Args:
        log_probabilities: (N, V).
        k: tokens kept; all of them if the vocabulary is smaller.

    Returns:
        tokens (N, k), likeliest first; their -log p (N, k); -log of their share together (N, temperatures).
    """
    k = min(k, log_probabilities.size(-1))
    best, tokens = log_probabilities.topk(k)
    exact, kept = log_probabilities.double(), best.double()
    shares = [(exact / t).logsumexp(-1) - (kept / t).logsumexp(-1) for t in TEMPERATURES]
    return tokens, -best, torch.stack(shares, -1)
