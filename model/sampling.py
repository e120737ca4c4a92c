"""Drawing a token from logits: temperature, top-k, top-p, and a race in which each text has its own random numbers.

Nothing here waits for the device: the random numbers are given. So a step that draws can be recorded as a CUDA graph.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

Generators = torch.Generator | Sequence[torch.Generator] | None
MIN_TEMPERATURE = 1e-6  # a lower temperature is treated as greedy: logits are not precise enough for it


@dataclass(frozen=True)
class SamplingParams:
    """How the next token is drawn. A value out of range raises ValueError."""

    temperature: float = 1.0  # 1 = the network's distribution, below 1 = safer, 0 = always the likeliest token
    top_k: int | None = None  # draw from the k likeliest tokens (of equals at the edge, the first); None = from all
    top_p: float | None = None  # draw from the fewest likeliest tokens with this probability, after temperature and top_k

    def __post_init__(self) -> None:
        if not 0.0 <= self.temperature < math.inf:
            raise ValueError(f"temperature must be 0 or more, it is {self.temperature}")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k must be 1 or more, it is {self.top_k}")
        if self.top_p is not None and not 0.0 < self.top_p <= 1.0:
            raise ValueError(f"top_p must be above 0 and at most 1, it is {self.top_p}")

    @property
    def greedy(self) -> bool:
        """The likeliest token, without a random number."""
        return self.temperature < MIN_TEMPERATURE


def token_weights(logits: Tensor, params: SamplingParams) -> Tensor:
    """(B, V) logits -> weights to draw by, 1 for the likeliest token, 0 for what top-k or top-p removes."""
    weights = ((logits - logits.amax(dim=-1, keepdim=True)) / params.temperature).exp()
    top_k, top_p = params.top_k or weights.size(1), params.top_p or 1.0
    if top_k >= weights.size(1) and top_p == 1.0:
        return weights
    kept, tokens = weights.sort(dim=-1, descending=True, stable=True)
    kept[:, top_k:] = 0.0
    if top_p < 1.0:
        before = kept.cumsum(dim=-1, dtype=torch.float64) - kept  # the weight of all likelier tokens
        kept.masked_fill_(before >= top_p * kept.sum(dim=-1, keepdim=True), 0.0)
    return torch.zeros_like(weights).scatter_(1, tokens, kept)


def exponential_race(weights: Tensor, noise: Tensor) -> Tensor:
    """Draw one index of each row with probability proportional to its weight, (B, V) -> (B,).

    With e_i from the exponential distribution, argmax weight_i / e_i is i with that probability. A first race draws a block of
    about sqrt(V) tokens, a second one a token of it: 2 sqrt(V) random numbers instead of V. A winner changes only if two are
    within rounding of each other, so a row's draw is the same in any batch; a cumulative sum would add up rounding errors.
    """
    B, V = weights.shape
    side = _side(V)
    blocks = F.pad(weights, (0, side * side - V)).view(B, side, side)
    block = (blocks.sum(-1) / noise[:, :side]).argmax(-1, keepdim=True)  # (B, 1)
    entries = blocks.gather(1, block[:, :, None].expand(-1, 1, side))[:, 0]  # (B, side)
    return block[:, 0] * side + (entries / noise[:, side:]).argmax(-1)


def exponential_noise(rows: int, vocab_size: int, generator: Generators) -> Tensor:
    """The random numbers of one draw, (rows, 2 side) float64 above 0: one generator's, or each row's own."""
    if isinstance(generator, Sequence):
        return torch.cat([exponential_noise(1, vocab_size, one) for one in generator])
    device = "cpu" if generator is None else generator.device
    uniform = torch.rand(rows, 2 * _side(vocab_size), dtype=torch.float64, generator=generator, device=device)
    return -uniform.log()  # from (0, inf]: rand is below 1 and may be 0


def _side(V: int) -> int:
    """The smallest whole number whose square is at least V: blocks of the vocabulary, and tokens in a block."""
    return math.isqrt(V - 1) + 1
