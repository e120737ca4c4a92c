"""N-gram baselines: what counting n-grams in the training tokens achieves, so that a network's perplexity has a yardstick.

Interpolated modified Kneser-Ney (Chen and Goodman 1999, section 3): three discounts per order, counts of distinct left
neighbors below the highest order, down to the uniform distribution, so that every token has a probability.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stages.corpus.tokens import TokenFile

MAX_TOKENS = 1 << 23  # training tokens counted; of a longer text only the first ones (0.4 GB, some seconds)
CHUNK = 1 << 20  # tokens scored at a time

Keys = NDArray[np.uint64]  # n-grams as numbers in base vocab_size, the oldest token first


@dataclass(frozen=True)
class _Order:
    """One order's counts: n-grams and their contexts, both sorted."""

    grams: Keys  # (G,)
    discounted: NDArray[np.float64]  # (G,) (count - discount) / the context's total
    contexts: Keys  # (H,) an n-gram without its last token
    left_over: NDArray[np.float64]  # (H,) probability that the discounts freed, for the order below


class KneserNey:
    """An n-gram model of a token stream, whose first token is context only; order 1 = unigram, 3 = trigram."""

    def __init__(self, stream: NDArray[np.uint16], vocab_size: int, order: int) -> None:
        assert vocab_size**order < 2**64, "n-grams must fit 64 bits"
        self._vocab_size = vocab_size
        grams, counts = np.unique(_keys(stream, vocab_size, order), return_counts=True)
        self._orders = [_smooth(grams, counts, vocab_size)]
        for lower in range(order - 1, 0, -1):  # how many different tokens come before each shorter n-gram
            grams, counts = np.unique(grams % np.uint64(vocab_size**lower), return_counts=True)
            self._orders.insert(0, _smooth(grams, counts, vocab_size))

    def nats(self, stream: NDArray[np.uint16]) -> float:
        """Mean nats per token of a stream (its first token is context only)."""
        order, total = len(self._orders), 0.0
        for start in range(1, len(stream), CHUNK):
            first = max(0, start - max(1, order - 1))  # of the chunk's context
            keys = _keys(stream[first : start + CHUNK], self._vocab_size, order)
            total -= float(np.log(self._probabilities(keys[start - first - 1 :])).sum())
        return total / (len(stream) - 1)

    def _probabilities(self, keys: Keys) -> NDArray[np.float64]:
        """Of the last token of each n-gram of the highest order, given the tokens before it."""
        probabilities = np.full(len(keys), 1.0 / self._vocab_size)
        for length, counted in enumerate(self._orders, start=1):
            grams = keys % np.uint64(self._vocab_size**length)
            probabilities *= _look_up(grams // np.uint64(self._vocab_size), counted.contexts, counted.left_over, 1.0)
            probabilities += _look_up(grams, counted.grams, counted.discounted, 0.0)
        return probabilities


def perplexities(train: TokenFile, validation: TokenFile, vocab_size: int) -> tuple[float, float]:
    """Perplexity of the validation tokens under a unigram and a trigram model of the (first MAX_TOKENS) training tokens."""
    counted = train.stream[: MAX_TOKENS + 1]
    unigram, trigram = (math.exp(KneserNey(counted, vocab_size, order).nats(validation.stream)) for order in (1, 3))
    return unigram, trigram


def _keys(stream: NDArray[np.uint16], vocab_size: int, order: int) -> Keys:
    """The n-gram that ends at each token but the first, (N - 1,); the stream's first token is repeated before it."""
    padded = np.concatenate([np.repeat(stream[:1], max(0, order - 2)), stream])  # (N + order - 2,)
    padded = padded[1:] if order == 1 else padded
    keys = np.zeros(len(stream) - 1, dtype=np.uint64)
    for place in range(order):
        keys *= np.uint64(vocab_size)
        keys += padded[place : place + len(keys)]
    return keys


def _smooth(grams: Keys, counts: NDArray[np.int64], vocab_size: int) -> _Order:
    """Discount the counts of one order."""
    contexts, starts = np.unique(grams // np.uint64(vocab_size), return_index=True)
    discount = _discounts(counts)[np.minimum(counts, 3)]
    totals = np.add.reduceat(counts, starts).astype(np.float64)
    sizes = np.diff(np.append(starts, len(grams)))
    left_over = np.add.reduceat(discount, starts) / totals
    return _Order(grams, (counts - discount) / np.repeat(totals, sizes), contexts, left_over)


def _discounts(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """The discounts of counts 0 (none), 1, 2 and 3 or more (Chen and Goodman, equation 26)."""
    once, twice, thrice, four = (float((counts == count).sum()) for count in (1, 2, 3, 4))
    if not (once and twice and thrice):  # a text too small or too regular to estimate from
        return np.array([0.0, 0.5, 0.5, 0.5])
    y = once / (once + 2 * twice)
    discounts = np.array([0.0, 1 - 2 * y * twice / once, 2 - 3 * y * thrice / twice, 3 - 4 * y * four / thrice])
    return np.asarray(np.clip(discounts, 0.0, [0.0, 1.0, 2.0, 3.0]))


def _look_up(keys: Keys, known: Keys, values: NDArray[np.float64], otherwise: float) -> NDArray[np.float64]:
    """Each key's value, `otherwise` for those that are not known."""
    place = np.minimum(np.searchsorted(known, keys), len(known) - 1)
    return np.where(known[place] == keys, values[place], otherwise)
