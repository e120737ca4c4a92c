"""Logit lens: the prediction that each block's output would give, were it the last (nostalgebraist 2020)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from model import GPT2


@torch.no_grad()
def logit_lens(net: GPT2, tokens: Tensor) -> Iterator[Tensor]:
    """Log-probabilities of every next token, from the residual stream before the first block and after each one.

    (T,) int64 -> (T, V) float32 on the CPU, n_layer + 1 times. The network's own last norm and head are applied to the stream
    as it is there; what comes last is the network's output. One layer's logits are made at a time, because all are large.
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
        yield net.lm_head(net.ln_f(x)).float().log_softmax(-1).cpu()
