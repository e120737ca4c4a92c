"""Overlap: validation stories that are in the training split too, exactly or nearly.

The training stream is read once in chunks, whatever its size; 0.5 kB of fingerprints is kept per validation story. Candidates
are found by MinHash with banding (Broder 1997; Leskovec, Rajaraman and Ullman, Mining of Massive Datasets, 3.3 and 3.4), and
each is then checked against the tokens themselves.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stages.common.progress import bar
from stages.corpus.rolling_hash import Hashes, Rolling, Tokens, fingerprint
from stages.corpus.tokens import TokenFile

SHINGLE = 5  # neighbouring tokens that are compared as one (Lee et al. 2022, "Deduplicating training data ...", 4.2)
NEAR = 0.8  # share of two stories' shingles that both have, from which on they are near copies (Jaccard; Lee et al.)
BANDS, ROWS = 16, 5  # candidates agree in all minima of a band: at 0.8 with probability 0.998, at 0.3 with 0.04
ROUGH = NEAR - 0.15  # share of all minima that agree, from which on a candidate is checked: three standard errors below
CHUNK = 1 << 20  # training tokens at a time
PAIRS = 1 << 14  # candidates compared at a time


@dataclass(frozen=True)
class _Sketches:
    """Fingerprints of S stories of a split."""

    numbers: NDArray[np.int64]  # (S,) which stories
    hashes: Hashes  # (S,) of the whole story
    minima: NDArray[np.uint32]  # (S, BANDS * ROWS) smallest hash of its shingles under each of BANDS * ROWS orders
    bands: Hashes  # (S, BANDS) of each band's minima


def overlap(train: TokenFile, validation: TokenFile) -> tuple[float, float]:
    """Shares of the validation stories that the training split holds: word for word, and (these included) nearly."""
    sketches = [_sketch(validation, first, last) for first, last in _chunks(validation)]
    known, copies = _distinct(_join(sketches))
    order = np.argsort(known.bands, axis=0, kind="stable")  # (S, BANDS)
    exact, near = np.zeros(len(copies), bool), np.zeros(len(copies), bool)
    with bar(len(train), "overlap", "token", unit_scale=True) as progress:
        for first, last in _chunks(train):
            seen, _ = _distinct(_sketch(train, first, last))
            for held_out, trained_on in zip(*_equal(known.hashes, np.arange(len(copies)), seen.hashes), strict=True):
                if not exact[held_out]:
                    pair = _text(validation, known.numbers[held_out]), _text(train, seen.numbers[trained_on])
                    exact[held_out] = np.array_equal(*pair)
            near |= exact
            for held_out, trained_on in _candidates(known, order, seen, ~near):
                if not near[held_out]:
                    near[held_out] = (
                        _jaccard(_text(validation, known.numbers[held_out]), _text(train, seen.numbers[trained_on])) >= NEAR
                    )
            progress.update(int(train.offsets[last] - train.offsets[first]))
    return float(copies[exact].sum() / validation.stories), float(copies[near].sum() / validation.stories)


def _chunks(split: TokenFile) -> Iterator[tuple[int, int]]:
    """Ranges of story numbers of about CHUNK tokens, at least one story each."""
    first = 0
    while first < split.stories:
        last = int(np.searchsorted(split.offsets, split.offsets[first] + CHUNK, side="right")) - 1
        last = max(first + 1, last)
        yield first, last
        first = last


def _sketch(split: TokenFile, first: int, last: int) -> _Sketches:
    """Fingerprint the stories [first, last)."""
    bounds = np.asarray(split.offsets[first : last + 1])
    rolling = Rolling(split.stream[bounds[0] : bounds[-1]])
    starts, ends = bounds[:-1] - bounds[0], bounds[1:] - 1 - bounds[0]  # without end-of-text
    hashes = rolling.stretches(starts, ends)
    minima = np.repeat((hashes >> np.uint64(32)).astype(np.uint32)[:, None], BANDS * ROWS, axis=1)
    counts = np.maximum(ends - starts - SHINGLE + 1, 0)  # shingles of each story
    some = counts > 0  # a story without shingles keeps its own hash as its minima
    if some.any():
        before = np.cumsum(counts[some]) - counts[some]
        places = np.arange(counts.sum()) + np.repeat(starts[some] - before, counts[some])
        shingles = rolling.grams(SHINGLE)[places]
        value = (shingles >> np.uint64(32)).astype(np.uint32)
        step = shingles.astype(np.uint32) | np.uint32(1)
        for order in range(BANDS * ROWS):  # order k ranks by high + k low (Kirsch and Mitzenmacher 2008)
            minima[some, order] = np.minimum.reduceat(value, before)
            value += step
    bands = fingerprint(minima.reshape(-1, BANDS, ROWS))
    return _Sketches(np.arange(first, last), hashes, minima, bands)


def _join(parts: list[_Sketches]) -> _Sketches:
    names = ("numbers", "hashes", "minima", "bands")
    return _Sketches(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def _distinct(sketches: _Sketches) -> tuple[_Sketches, NDArray[np.int64]]:
    """One of each text, and how often it is there: a corpus of copies must not make pairs of all its stories."""
    _, first, copies = np.unique(sketches.hashes, return_index=True, return_counts=True)
    picked = _Sketches(sketches.numbers[first], sketches.hashes[first], sketches.minima[first], sketches.bands[first])
    return picked, copies


def _candidates(
    known: _Sketches, order: NDArray[np.int64], seen: _Sketches, wanted: NDArray[np.bool_]
) -> Iterator[tuple[int, int]]:
    """Pairs of rows (known, seen) that may be near copies, of the known ones that are `wanted`."""
    pairs = [_equal(known.bands[order[:, band], band], order[:, band], seen.bands[:, band]) for band in range(BANDS)]
    held_out, trained_on = (np.concatenate(side) for side in zip(*pairs, strict=True))
    held_out, trained_on = np.divmod(
        np.unique(held_out[wanted[held_out]] * len(seen.numbers) + trained_on[wanted[held_out]]), len(seen.numbers)
    )
    for start in range(0, len(held_out), PAIRS):
        now = slice(start, start + PAIRS)
        alike = (known.minima[held_out[now]] == seen.minima[trained_on[now]]).mean(axis=1) >= ROUGH
        yield from zip(held_out[now][alike], trained_on[now][alike], strict=True)


def _equal(keys: Hashes, rows: NDArray[np.int64], others: Hashes) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """All pairs (row of a sorted key, index of another) with equal hashes."""
    left, right = np.searchsorted(keys, others, side="left"), np.searchsorted(keys, others, side="right")
    counts = right - left
    indices = np.repeat(np.arange(len(others)), counts)
    places = np.arange(counts.sum()) + np.repeat(left - (np.cumsum(counts) - counts), counts)
    return rows[places], indices


def _text(split: TokenFile, story: int) -> Tokens:
    """A story's tokens without end-of-text."""
    return split.stream[split.offsets[story] : split.offsets[story + 1] - 1]


def _jaccard(one: Tokens, other: Tokens) -> float:
    """Share of the shingles of both that are in each."""
    a, b = (np.unique(Rolling(tokens).grams(SHINGLE)) for tokens in (one, other))
    common = len(np.intersect1d(a, b, assume_unique=True))
    return common / max(1, len(a) + len(b) - common)
