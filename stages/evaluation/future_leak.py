"""Leak: does a prediction change when the tokens after it change? With the mask it cannot."""

from __future__ import annotations

import numpy as np
import torch

from model.gpt2 import GPT2
from stages.corpus.tokens import TokenFile

WINDOWS = 16


@torch.inference_mode()
def future_leak(net: GPT2, split: TokenFile, windows: int = WINDOWS) -> float:
    """Largest change of any logit when only later tokens change; exactly 0 with the mask.

    Windows are spread over the split. Each is cut at another place, everything from there on is replaced by other text of
    the same split, and the logits before the cut are compared.

    Returns:
        the change in nats (logits are log-probabilities up to a constant); 0 where a window is too short to be cut.
    """
    context = min(net.config.block_size, len(split))  # T
    if context < 2:
        return 0.0
    starts = np.linspace(0, len(split) - context, windows).astype(np.int64)
    cuts = np.linspace(1, context - 1, windows).astype(np.int64)
    worst = 0.0
    for start, other, cut in zip(starts, np.roll(starts, 1), cuts, strict=True):
        tokens = _window(split, start, context, net)
        changed = _window(split, other, context, net)
        changed[:, cut:] = torch.where(changed == tokens, (tokens + 1) % net.config.vocab_size, changed)[:, cut:]
        changed[:, :cut] = tokens[:, :cut]
        worst = max(worst, float((net(tokens) - net(changed))[:, :cut].abs().max()))
    return worst


def _window(split: TokenFile, start: int, context: int, net: GPT2) -> torch.Tensor:
    """(1, T) int64."""
    return torch.from_numpy(split.stream[start : start + context].astype(np.int64)).to(net.wte.weight.device)[None]
