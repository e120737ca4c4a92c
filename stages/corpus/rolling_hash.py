"""Rolling hash: a 64-bit fingerprint of any stretch of tokens in constant time, for a whole array of stretches at once.

A stretch t0 t1 t2 ... has the hash  r(t0) + r(t1) b + r(t2) b^2 + ...  modulo 2^64, r random numbers, b odd. Sums over prefixes
give it for every stretch (Karp and Rabin 1987). Equal stretches have equal hashes; the reverse must be checked.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]
Tokens = NDArray[np.uint16]

_OF_TOKEN = np.random.default_rng(0).integers(2**64, size=2**16, dtype=np.uint64)
_BASE = 0x9E3779B97F4A7C15
_INVERSE = pow(_BASE, -1, 2**64)
_MIX = np.uint64(0xBF58476D1CE4E5B9)


class Rolling:
    """Hashes of the stretches of a token array, (N,)."""

    def __init__(self, tokens: Tokens) -> None:
        self._prefix = np.zeros(len(tokens) + 1, np.uint64)
        np.cumsum(_OF_TOKEN[tokens] * _powers(_BASE, len(tokens)), out=self._prefix[1:])
        self._inverse = _powers(_INVERSE, len(tokens) + 1)

    def stretches(self, starts: NDArray[np.int64], ends: NDArray[np.int64]) -> Hashes:
        """Hash of tokens[start:end] for each pair."""
        return _mix((self._prefix[ends] - self._prefix[starts]) * self._inverse[starts])

    def grams(self, length: int) -> Hashes:
        """Hash of every stretch of `length` tokens, (N - length + 1,); none if the array is shorter."""
        count = max(0, len(self._prefix) - length)
        return _mix((self._prefix[length : length + count] - self._prefix[:count]) * self._inverse[:count])


def matches(hashes: Hashes, known: Hashes) -> NDArray[np.int64]:
    """Indices of the hashes that are among the sorted `known`. Most are not, which a bit table settles at once."""
    table = np.zeros(1 << 20, bool)
    table[known >> np.uint64(44)] = True
    maybe = np.flatnonzero(table[hashes >> np.uint64(44)])
    place = np.minimum(np.searchsorted(known, hashes[maybe]), max(0, len(known) - 1))
    return maybe[known[place] == hashes[maybe]] if len(known) else maybe


def _powers(base: int, count: int) -> Hashes:
    """base^0, base^1, ... modulo 2^64."""
    powers = np.full(count, base, np.uint64)
    powers[:1] = 1
    return np.cumprod(powers, out=powers)


def _mix(hashes: Hashes) -> Hashes:
    """Spread the bits: the low ones of the sum depend on few tokens' bits. One to one."""
    hashes = (hashes ^ (hashes >> np.uint64(32))) * _MIX
    return hashes ^ (hashes >> np.uint64(29))
