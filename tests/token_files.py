"""Small token files for the tests of the evaluation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from model import GPT2, GPT2Config
from stages.corpus.tokens import TokenFile

END = 0  # end-of-text


def token_file(stories: Sequence[Sequence[int]]) -> TokenFile:
    """A split with these stories, in memory."""
    stream = [END]
    offsets = [1]
    for story in stories:
        stream += [*story, END]
        offsets.append(len(stream))
    return TokenFile(np.array(stream, np.uint16), np.array(offsets, np.int64))


def random_stories(count: int, vocab_size: int = 20, longest: int = 30, seed: int = 0) -> list[list[int]]:
    """Stories of 1 to `longest` random tokens."""
    generator = np.random.default_rng(seed)
    return [generator.integers(1, vocab_size, generator.integers(1, longest + 1)).tolist() for _ in range(count)]


def tiny_net(vocab_size: int = 20, block_size: int = 16, causal: bool = True) -> GPT2:
    """A network with large random weights, so that every token of context matters."""
    torch.manual_seed(0)
    net = GPT2(GPT2Config(vocab_size=vocab_size, block_size=block_size, n_layer=2, n_head=2, n_embd=16, causal=causal))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    return net.eval()
