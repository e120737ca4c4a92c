"""Longest copy: the longest stretch of generated tokens that is word for word in the training stream."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stages.corpus.rolling_hash import Rolling, Tokens, matches

CHUNK = 1 << 20  # training tokens at a time


def longest_copy(samples: Sequence[Sequence[int]], stream: NDArray[np.uint16]) -> int:
    """Tokens in the longest run of any sample that is in the stream too.

    The stream, a memory map of any size, is read once: in each chunk only matches longer than the best so far are looked for.
    """
    texts = _Texts(samples)
    best = 0
    for start in range(0, len(stream), CHUNK):
        chunk = np.asarray(stream[start : start + CHUNK + texts.longest - 1])
        rolling = Rolling(chunk)
        while best < texts.longest and texts.share_a_run(chunk, rolling, best + 1):
            best += 1
    return best


class _Texts:
    """The samples end to end."""

    def __init__(self, samples: Sequence[Sequence[int]]) -> None:
        lengths = np.array([len(sample) for sample in samples], np.int64)
        self.longest = int(lengths.max(initial=0))
        self._tokens = np.concatenate([np.asarray(sample, np.uint16) for sample in samples] or [np.empty(0, np.uint16)])
        self._rolling = Rolling(self._tokens)
        self._left = np.repeat(np.cumsum(lengths), lengths) - np.arange(len(self._tokens))  # tokens from here to the text's end

    def share_a_run(self, chunk: Tokens, rolling: Rolling, length: int) -> bool:
        """Is there a run of `length` tokens that is in the chunk and in a text?"""
        starts = np.flatnonzero(self._left >= length)
        hashes = self._rolling.stretches(starts, starts + length)
        order = np.argsort(hashes)
        known, seen = hashes[order], rolling.grams(length)
        for place in matches(seen, known):
            start = starts[order[np.searchsorted(known, seen[place])]]
            if np.array_equal(chunk[place : place + length], self._tokens[start : start + length]):  # no chance hit
                return True
        return False
