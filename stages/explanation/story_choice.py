"""Story choice: which validation stories the page shows, the same ones each time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from stages.corpus.tokens import TokenFile

SHORTEST = 8  # tokens: below, there is nothing to look at


@dataclass(frozen=True)
class Story:
    """A validation story, or its beginning."""

    number: int  # its place in the validation split, from 1
    tokens: list[int]  # what the network is given: end-of-text, then the story's tokens
    targets: list[int]  # what it has to predict at each of these places; a whole story ends with end-of-text

    @property
    def whole(self) -> bool:
        """Whether it is shown to its end."""
        return self.targets[-1] == self.tokens[0]


def choose(split: TokenFile, count: int, best: int, most: int) -> list[Story]:
    """`count` stories (fewer if there are not as many), evenly spaced over the split.

    From each of `count` equal parts of the split comes the first story that has at most `best` tokens, all of which can be
    shown, else the first that has at most `most`, the network's context, else the beginning of the part's first story.
    """
    edges = np.linspace(0, split.stories, min(count, split.stories) + 1).round().astype(int)
    found = []
    for first, behind in pairwise(edges):
        lengths = split.offsets[first + 1 : behind + 1] - split.offsets[first:behind]  # with end-of-text
        fitting = (np.flatnonzero((lengths >= SHORTEST) & (lengths <= limit)) for limit in (best, most))
        chosen = next((int(places[0]) for places in fitting if len(places)), 0)
        found.append(_cut(split, int(first) + chosen, most))
    return found


def spread(split: TokenFile, count: int, most: int) -> Iterator[list[int]]:
    """The tokens of `count` stories or their beginnings, evenly spaced, to measure on: end-of-text first, `most` at most."""
    for index in np.linspace(0, split.stories - 1, min(count, split.stories)).round().astype(int):
        yield _cut(split, int(index), most).tokens


def _cut(split: TokenFile, index: int, most: int) -> Story:
    start = int(split.offsets[index])
    end = min(int(split.offsets[index + 1]), start + most)
    stream = split.stream
    return Story(index + 1, stream[start - 1 : end - 1].astype(int).tolist(), stream[start:end].astype(int).tolist())
