"""The sampling loop: temperature, top-k, top-p, a stop token, and random numbers that each sequence has to itself."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from model.decoder import Decoder
from model.decoder_head import Logits, logits_of
from model.gpt2 import GPT2

Generators = torch.Generator | Sequence[torch.Generator] | None
COLDEST = 1e-6  # a lower temperature is greedy: logits do not resolve it
NUCLEUS = 1024  # tokens that top-p tries first; sorting them all takes ten times as long


def generate(
    net: GPT2,
    prompt: Tensor,
    max_new_tokens: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    generator: Generators = None,
    stop: int | None = None,
) -> Tensor:
    """Continue each row of `prompt` by up to `max_new_tokens` tokens.

    Each token is drawn given the `block_size` tokens before it. Neither the network's mode nor its weights change, and no
    random numbers are taken from elsewhere than `generator`.

    Args:
        net: the network.
        prompt: (B, T0) int64, T0 >= 1. Beyond `block_size` its tail counts.
        max_new_tokens: most tokens to add.
        temperature: 1 = the network's distribution, below 1 = safer, 0 = always the likeliest token.
        top_k: draw from the k likeliest tokens (of equals at the edge, the first).
        top_p: draw from the smallest set of likeliest tokens with at least this probability, after temperature and top_k.
        generator: source of randomness: one for all rows, or one for each row, whose text then does not depend on the
            other rows. None = torch's global generator.
        stop: a row that yields this token is finished, and filled up with it.

    Returns:
        (B, <= T0 + max_new_tokens): shorter only if all rows are finished.

    Raises:
        ValueError: an argument out of range, or logits that are not finite.
    """
    parts = [prompt, *stream(net, prompt, max_new_tokens, temperature, top_k, top_p, generator, stop)]
    return torch.cat([part if part.dim() == 2 else part[:, None] for part in parts], dim=1)


@torch.inference_mode()
def stream(
    net: GPT2,
    prompt: Tensor,
    max_new_tokens: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    generator: Generators = None,
    stop: int | None = None,
) -> Iterator[Tensor]:
    """Like `generate`, but yields each step's new tokens (B,) as soon as they are drawn."""
    _check(net, prompt, max_new_tokens, temperature, top_k, top_p, generator)
    top_k = None if top_k is None or top_k >= net.config.vocab_size else top_k
    top_p = None if top_p == 1.0 else top_p
    B, context = prompt.size(0), net.config.block_size
    tokens = torch.cat([prompt, prompt.new_empty(B, max_new_tokens)], dim=1)
    finished = torch.zeros(B, dtype=torch.bool, device=prompt.device)
    decoder, head = Decoder(net, B), logits_of(net)
    for end in range(prompt.size(1), tokens.size(1)):  # tokens[:, end] is next
        if decoder.length and decoder.room and net.config.causal:
            hidden = decoder(tokens[:, end - 1 : end])
        else:  # the start, or a window that moves: every token's position changes, and with it all that was computed
            decoder.forget()
            hidden = decoder(tokens[:, max(0, end - context) : end])
        new = _choose(head, hidden, temperature, top_k, top_p, generator)
        if stop is not None:
            new = torch.where(finished, stop, new)
            finished |= new == stop
        tokens[:, end] = new
        yield new
        if stop is not None and bool(finished.all()):
            return


def _choose(
    head: Logits, hidden: Tensor, temperature: float, top_k: int | None, top_p: float | None, generator: Generators
) -> Tensor:
    """(B, C) hidden states -> (B,) tokens."""
    if temperature < COLDEST:
        best, token = head.likeliest(hidden)
        _check_finite(best)
        return token
    logits = head(hidden).float()
    best = logits.amax(dim=-1, keepdim=True)
    _check_finite(best)
    weights = ((logits - best) / temperature).exp()  # (B, V), the likeliest token's is 1
    if top_k is None and top_p is None:
        return draw(weights, generator)
    own = generator if isinstance(generator, Sequence) else [generator] * len(weights)
    return torch.cat([_draw_limited(row[None], top_k, top_p, one) for row, one in zip(weights, own, strict=True)])


def _draw_limited(weights: Tensor, top_k: int | None, top_p: float | None, generator: Generators) -> Tensor:
    """One row at a time: how many tokens stay in question, and so the random numbers taken, is each row's own affair."""
    kept, tokens = keep(weights, top_k, top_p)
    return tokens[0, draw(kept, generator)]


def _check_finite(best: Tensor) -> None:
    if not bool(best.isfinite().all()):
        raise ValueError("the logits are not finite: the weights are damaged, or their training diverged")


def keep(weights: Tensor, top_k: int | None, top_p: float | None) -> tuple[Tensor, Tensor]:
    """What top-k, then top-p leave of the weights, in falling order (taken by top-p = 0), and their tokens: (B, n) each."""
    V = weights.size(1)
    if top_k is not None:
        kept, tokens = likeliest(weights, top_k)
        total = kept.sum(dim=-1, keepdim=True)
    else:
        kept, tokens = likeliest(weights, min(NUCLEUS, V))
        total = weights.sum(dim=-1, keepdim=True)
        if top_p is not None and bool((kept.sum(dim=-1, keepdim=True) < top_p * total).any()):
            kept, tokens = likeliest(weights, V)
    if top_p is not None:
        before = kept.cumsum(dim=-1, dtype=torch.float64) - kept
        kept = kept.masked_fill(before >= top_p * total, 0.0)
    return kept, tokens


def likeliest(weights: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest weights of each row in falling order, of equals at the edge the first, and their tokens: (B, k) each."""
    if k < weights.size(1):
        values, tokens = weights.topk(k + 1)
        if not bool(((values[:, k - 1] == values[:, k]) & (values[:, k] > 0)).any()):
            return values[:, :k], tokens[:, :k]
    values, tokens = weights.sort(dim=-1, descending=True, stable=True)
    return values[:, :k], tokens[:, :k]


def draw(weights: Tensor, generator: Generators) -> Tensor:
    """Draw one index of each row with probability proportional to its weight, (B, V) -> (B,).

    Two exponential races: a block of about sqrt(V) neighbours, then a token of it. A race's winner changes only when two
    runners are within rounding of each other, so a row's draw is the same in any batch; an inverted cumulative sum would
    pass each rounding error on to all boundaries after it. And it takes 2 sqrt(V) random numbers instead of V.
    """
    B, V = weights.shape
    side = math.isqrt(V - 1) + 1
    blocks = F.pad(weights, (0, side * side - V)).view(B, side, side)
    noise = _exponentials(B, 2 * side, generator).to(weights.device)
    block = (blocks.sum(-1) / noise[:, :side]).argmax(-1)  # (B,)
    token = (blocks[torch.arange(B, device=block.device), block] / noise[:, side:]).argmax(-1)
    return block * side + token


def _exponentials(rows: int, columns: int, generator: Generators) -> Tensor:
    """(rows, columns) standard exponential variates, above 0, float64, on the generator's device."""
    if isinstance(generator, Sequence):
        uniform = torch.cat([_uniform(1, columns, one) for one in generator])
    else:
        uniform = _uniform(rows, columns, generator)
    return -uniform.log()  # from (0, inf]: rand is below 1 and may be 0


def _uniform(rows: int, columns: int, generator: torch.Generator | None) -> Tensor:
    device = "cpu" if generator is None else generator.device
    return torch.rand(rows, columns, dtype=torch.float64, generator=generator, device=device)


def _check(
    net: GPT2,
    prompt: Tensor,
    max_new_tokens: int,
    temperature: float,
    top_k: int | None,
    top_p: float | None,
    generator: Generators,
) -> None:
    if prompt.dim() != 2 or prompt.size(1) < 1 or prompt.dtype != torch.int64:
        raise ValueError(f"prompt must be (B, T0) int64 with T0 >= 1, it is {tuple(prompt.shape)} {prompt.dtype}")
    if prompt.numel() and not 0 <= int(prompt.min()) <= int(prompt.max()) < net.config.vocab_size:
        raise ValueError(f"prompt has tokens outside the vocabulary of {net.config.vocab_size}")
    if max_new_tokens < 0:
        raise ValueError(f"max_new_tokens must be 0 or more, it is {max_new_tokens}")
    if not 0.0 <= temperature < math.inf:
        raise ValueError(f"temperature must be 0 or more, it is {temperature}")
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k must be 1 or more, it is {top_k}")
    if top_p is not None and not 0.0 < top_p <= 1.0:
        raise ValueError(f"top_p must be above 0 and at most 1, it is {top_p}")
    if isinstance(generator, Sequence) and len(generator) != prompt.size(0):
        raise ValueError(f"{len(generator)} generators for {prompt.size(0)} rows")
