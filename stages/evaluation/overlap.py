"""Overlap: validation stories that are in the training split too, word for word or nearly.

The training stream is read once, story by story; about 2 kB is kept per validation story. Candidates are found by MinHash
with banding (Broder 1997; Leskovec, Rajaraman and Ullman, Mining of Massive Datasets, 3.3 and 3.4), and each is then checked
against the tokens themselves.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from stages.common.progress import bar
from stages.corpus.rolling_hash import Hashes, Rolling, Tokens
from stages.corpus.tokens import TokenFile

SHINGLE = 5  # neighboring tokens that are compared as one (Lee et al. 2022, "Deduplicating training data ...", 4.2)
NEAR = 0.8  # share of two stories' shingles that both have, from which on they are near copies (Jaccard; Lee et al.)
BANDS, ROWS = 16, 5  # candidates agree in all minima of a band: at 0.8 with probability 0.998, at 0.3 with 0.04
ROUGH = NEAR - 0.15  # candidates whose estimated Jaccard is below NEAR minus three standard errors are dropped
ORDERS = np.arange(BANDS * ROWS, dtype=np.uint32)

Minima = NDArray[np.uint32]  # (BANDS * ROWS,) smallest hash of a story's shingles under each of as many orders


def overlap(train: TokenFile, validation: TokenFile) -> tuple[float, float]:
    """Shares of the validation stories that the training split holds: word for word, and (these included) nearly."""
    copies = Counter(_text(validation, story).tobytes() for story in range(validation.stories))  # equal stories: looked up once
    rows = {text: row for row, text in enumerate(copies)}
    texts = [np.frombuffer(text, np.uint16) for text in copies]
    minima = np.stack([_minima(_shingles(tokens)) for tokens in texts])  # (S, BANDS * ROWS)
    buckets: dict[bytes, set[int]] = defaultdict(set)  # what stories of a bucket have in common is all minima of a band
    for row, found in enumerate(minima):
        for band in _bands(found):
            buckets[band].add(row)
    exact, near = np.zeros(len(rows), bool), np.zeros(len(rows), bool)
    with bar(train.stories, "overlap", "story") as progress:
        for story in range(train.stories):
            progress.update()
            tokens = _text(train, story)
            same = rows.get(tokens.tobytes())
            if same is not None:
                if exact[same]:
                    continue
                exact[same] = near[same] = True
            own = _shingles(tokens)
            found = _minima(own)
            candidates = np.array(sorted(set().union(*(buckets.get(band, ()) for band in _bands(found)))), np.int64)
            candidates = candidates[~near[candidates]]
            for row in candidates[(minima[candidates] == found).mean(axis=1) >= ROUGH]:
                near[row] = _jaccard(_shingles(texts[row]), own) >= NEAR
    counts = np.array(list(copies.values()))
    return float(counts[exact].sum() / validation.stories), float(counts[near].sum() / validation.stories)


def _text(split: TokenFile, story: int) -> Tokens:
    """A story's tokens without end-of-text."""
    return split.stream[split.offsets[story] : split.offsets[story + 1] - 1]


def _shingles(tokens: Tokens) -> Hashes:
    """The hash of each shingle; of the whole story if it is shorter than one."""
    return Rolling(tokens).grams(min(SHINGLE, len(tokens)))


def _minima(shingles: Hashes) -> Minima:
    """Order k ranks by high + k low (Kirsch and Mitzenmacher 2008)."""
    high, low = (shingles >> np.uint64(32)).astype(np.uint32), shingles.astype(np.uint32) | np.uint32(1)
    return np.asarray((high + ORDERS[:, None] * low).min(axis=1))


def _bands(minima: Minima) -> Iterator[bytes]:
    """Each band's number and minima."""
    for band, values in enumerate(minima.reshape(BANDS, ROWS)):
        yield bytes([band]) + values.tobytes()


def _jaccard(one: Hashes, other: Hashes) -> float:
    """Share of the shingles of both that are in each."""
    common = len(np.intersect1d(one, other))
    return common / (len(np.unique(one)) + len(np.unique(other)) - common)
