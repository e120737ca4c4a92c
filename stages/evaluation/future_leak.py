"""Future leak: does a prediction change when the tokens after it change? With the mask it cannot."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.gpt2 import GPT2
from stages.corpus.tokens import TokenFile
from stages.evaluation.scoring import batch_tokens

WINDOWS = 16


@torch.inference_mode()
def future_leak(net: GPT2, split: TokenFile) -> float:
    """Largest change of any logit, in nats, when only later tokens change: 0 with the mask, or if windows are too short to cut.

    Windows are spread over the split. Each is cut at another place, everything from there on is replaced by other text of
    the same split, and the logits before the cut are compared.
    """
    context = min(net.config.block_size, len(split))  # T
    if context < 2:
        return 0.0
    batch = max(1, batch_tokens(net) // context)
    starts = np.linspace(0, len(split) - context, WINDOWS).astype(np.int64)
    cuts = np.linspace(1, context - 1, WINDOWS).astype(np.int64)
    tokens, changed = _windows(split, starts, context), _windows(split, np.roll(starts, 1), context)  # (windows, T) each
    changed = torch.where(changed == tokens, (tokens + 1) % net.config.vocab_size, changed)
    later = torch.from_numpy(cuts)[:, None] <= torch.arange(context)  # (windows, T)
    changed = torch.where(later, changed, tokens)
    device = net.wte.weight.device
    worst = torch.zeros((), device=device)
    for now in torch.split(torch.arange(WINDOWS), batch):
        one, other = (net.hidden(part[now].to(device)) for part in (tokens, changed))  # (b, T, C) each
        for row, cut in enumerate(cuts[now].tolist()):
            change = (net.lm_head(one[row, :cut]) - net.lm_head(other[row, :cut])).abs().max()
            worst = torch.maximum(worst, change)
    return float(worst)


def _windows(split: TokenFile, starts: NDArray[np.int64], context: int) -> Tensor:
    """(windows, T) int64, on the CPU."""
    return torch.from_numpy(split.stream[starts[:, None] + np.arange(context)].astype(np.int64))
