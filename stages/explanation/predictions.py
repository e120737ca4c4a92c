"""Predictions: what the network expects at each place of a text, and how surprised it is by what comes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from model import GPT2
from stages.compute import saved_model


@dataclass(frozen=True)
class Ranking:
    """A distribution at each place, cut to its likeliest tokens. N places, any leading shape; nats are -log p."""

    nats: Tensor  # (N,), of the token that came
    rank: Tensor  # (N,), of that token; 1 = the likeliest
    tokens: Tensor  # (N, K), the K likeliest tokens, likeliest first
    token_nats: Tensor  # (N, K), of these tokens


@torch.no_grad()
def log_probabilities(net: GPT2, tokens: Tensor) -> Tensor:
    """The log-probability of every next token at each place: (T,) int64 -> (T, V) float32 on the CPU.

    One pass over the text, as in training and evaluation: a network without a mask sees what comes next.
    """
    logits: Tensor = net(tokens[None].to(net.wte.weight.device))[0]
    if not bool(logits.isfinite().all()):
        raise saved_model.not_finite()
    return logits.float().log_softmax(-1).cpu()


def rank(log_probabilities: Tensor, targets: Tensor, k: int) -> Ranking:
    """Where the targets stand: (N, V) log-probabilities, (N,) int64 targets. Tokens that are equally likely share a rank."""
    best, tokens = log_probabilities.topk(min(k, log_probabilities.size(-1)))
    own = log_probabilities.gather(-1, targets[:, None])  # (N, 1)
    return Ranking(-own[:, 0], 1 + (log_probabilities > own).sum(-1), tokens, -best)
