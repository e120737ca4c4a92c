"""The sampling loop: temperature, top-k, top-p, a stop token, and random numbers of each sequence's own."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from model.captured_decoder import can_capture, captured_steps
from model.choice import Choice, Generators, choose
from model.decoder import Decoder
from model.decoder_head import logits_of
from model.gpt2 import GPT2


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
        prompt: (B, T0) int64, T0 >= 1. Of a longer one only the last `block_size` tokens count.
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
    """Like `generate`, but yields each step's new tokens (B,) as soon as they are known: one by one on a CPU, on a GPU in
    blocks of a few steps."""
    _check(net, prompt, max_new_tokens, temperature, top_k, top_p, generator)
    top_k = None if top_k is None or top_k >= net.config.vocab_size else top_k
    choice = Choice(temperature, top_k, None if top_p == 1.0 else top_p)
    if can_capture(net, choice, generator):
        yield from captured_steps(net, prompt, max_new_tokens, choice, generator, stop)
        return
    B, context = prompt.size(0), net.config.block_size
    tokens = torch.cat([prompt, prompt.new_empty(B, max_new_tokens)], dim=1)
    finished = torch.zeros(B, dtype=torch.bool, device=prompt.device)
    decoder, head = Decoder(net, B), logits_of(net)
    for end in range(prompt.size(1), tokens.size(1)):  # tokens[:, end] is next
        if decoder.length and decoder.room and net.config.causal:
            hidden = decoder(tokens[:, end - 1 : end])
        else:  # at the start, or once the context is full: the window moves, so all positions change and are computed again
            decoder.forget()
            hidden = decoder(tokens[:, max(0, end - context) : end])
        new = choose(head, hidden, choice, generator)
        if stop is not None:
            new = torch.where(finished, stop, new)
            finished |= new == stop
        tokens[:, end] = new
        yield new
        if stop is not None and bool(finished.all()):
            return


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
