"""Prompt notes: what the network cannot know of a prompt, or takes for something else than was meant."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from stages.corpus.tokenizer import END_OF_TEXT, Tokenizer

CHUNK = 1 << 20  # training tokens at a time
SHOWN = 10  # tokens in a note


def notes(tokenizer: Tokenizer, prompts: Sequence[str], stream: NDArray[np.uint16] | None) -> Iterator[str]:
    """A sentence for each thing to know about each prompt; without the training tokens (`stream`) they are not compared."""
    ids = [tokenizer.encode(prompt) for prompt in prompts]
    unseen = set() if stream is None else _not_in(stream, set().union(*ids))
    for prompt, tokens in zip(prompts, ids, strict=True):
        name = f"the prompt {f'{prompt[:30]}…' if len(prompt) > 30 else prompt!r}"
        if END_OF_TEXT in prompt:
            yield f"{name}: {END_OF_TEXT} in it is taken for plain text, not for the end of a story"
        if prompt.endswith(" "):
            yield f"{name}: the space at its end is kept; words have their own, so leave it out for one to follow"
            tokens.pop()
        if strange := list(dict.fromkeys(text for text, part in _pieces(tokenizer, tokens) if unseen & set(part))):
            more = f" and {len(strange) - SHOWN:,} more" if len(strange) > SHOWN else ""
            listed = ", ".join(map(repr, strange[:SHOWN]))
            yield f"{name}: training never saw its tokens {listed}{more}: what follows them is left to chance"


def _pieces(tokenizer: Tokenizer, tokens: Sequence[int]) -> Iterator[tuple[str, Sequence[int]]]:
    """The text of each token; of several where only together they make a character."""
    start = 0
    for end in range(1, len(tokens) + 1):
        text = tokenizer.decode(tokens[start:end])
        if not text.endswith("\N{REPLACEMENT CHARACTER}") or end == len(tokens):
            yield text, tokens[start:end]
            start = end


def _not_in(stream: NDArray[np.uint16], tokens: set[int]) -> set[int]:
    """Those of the tokens that are nowhere in the stream, which is read no further than needed."""
    left = np.array(sorted(tokens), np.int64)
    seen = np.zeros(1 << 16, bool)
    for start in range(0, len(stream), CHUNK):
        seen[np.asarray(stream[start : start + CHUNK])] = True
        left = left[~seen[left]]
        if not len(left):
            break
    return set(left.tolist())
