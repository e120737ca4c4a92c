"""Predictions: what the network expects at each place of a text, after each block, and how surprised it is by what comes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

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
def logit_lens(net: GPT2, tokens: Tensor) -> Iterator[Tensor]:
    """Log-probabilities of every next token, were the first block's input or a block's output the last (nostalgebraist 2020).

    (T,) int64 -> (T, V) float32 on the CPU, n_layer + 1 times. The network's own last norm and head are applied to the stream
    as it is there; what comes last is the network's output. One layer's logits are made at a time, because all are large.
    A network without a mask sees what comes next, as in training and evaluation.
    """
    streams: list[Tensor] = []

    def before(module: Any, args: tuple[Tensor]) -> None:
        streams.append(args[0][0])

    def after(module: Any, args: Any, x: Tensor) -> None:
        streams.append(x[0])

    hooks = [net.h[0].register_forward_pre_hook(before), *(block.register_forward_hook(after) for block in net.h)]
    try:
        net.hidden(tokens[None].to(net.wte.weight.device))
    finally:
        for hook in hooks:
            hook.remove()
    for x in streams:  # (T, C)
        logits = net.lm_head(net.ln_f(x)).float()
        if not bool(logits.isfinite().all()):
            raise saved_model.not_finite()
        yield logits.log_softmax(-1).cpu()


def rank(log_probabilities: Tensor, targets: Tensor, k: int) -> Ranking:
    """Where the targets stand: (N, V) log-probabilities, (N,) int64 targets. Tokens that are equally likely share a rank."""
    best, tokens = log_probabilities.topk(min(k, log_probabilities.size(-1)))
    own = log_probabilities.gather(-1, targets[:, None])  # (N, 1)
    return Ranking(-own[:, 0], 1 + (log_probabilities > own).sum(-1), tokens, -best)
