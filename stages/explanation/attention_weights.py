"""Attention weights: how much each token looks at each other one, in every head of a real forward pass."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from model import GPT2
from model.attention import attention_probabilities


@torch.no_grad()
def attention_weights(net: GPT2, tokens: Tensor) -> Tensor:
    """The attention weights of every block and head in one forward pass (Vaswani et al. 2017, equation 1).

    (1, T) int64 -> (L, H, T, T) float32 on the CPU: the share of its attention that query i (row) gives to key j (column).
    """
    seen: list[Tensor] = []

    def watch(attention: Any, args: tuple[Tensor, ...]) -> None:
        q, k, _ = attention.heads(args[0])  # (1, H, T, hs)
        seen.append(attention_probabilities(q, k, net.config.causal)[0].cpu())

    hooks = [block.attn.register_forward_pre_hook(watch) for block in net.h]  # type: ignore[union-attr]
    try:
        net.hidden(tokens)
    finally:
        for hook in hooks:
            hook.remove()
    return torch.stack(seen)
