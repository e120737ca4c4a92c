"""Overlap and copying: what was planted is found, nothing else is, however the stream is cut."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import token_file

from stages.corpus import rolling_hash
from stages.evaluation import overlap
from stages.generation import longest_copy as copying
from stages.generation.longest_copy import longest_copy


def stories(count: int, seed: int, length: int = 60) -> list[list[int]]:
    """Unrelated stories of one length."""
    return np.random.default_rng(seed).integers(1, 1_000, (count, length)).tolist()  # type: ignore[no-any-return]


def changed(story: list[int], places: list[int]) -> list[int]:
    """The story with other tokens in some places."""
    return [token + 5_000 if place in places else token for place, token in enumerate(story)]


def test_finds_what_was_planted() -> None:
    """3 exact copies and 4 near ones among 50 stories are counted; far ones are not."""
    train, validation = stories(100, 0), stories(50, 1)
    for place in range(3):
        validation[place] = train[8 * place]
    for place in range(3, 7):
        validation[place] = changed(train[8 * place], [20])  # 51 of 61 shingles are common: 0.84
    for place in range(7, 12):
        validation[place] = changed(train[8 * place], [5, 20, 40])  # 41 of 71: 0.58
    assert overlap.overlap(token_file(train), token_file(validation)) == (3 / 50, 7 / 50)


def test_no_near_copy_is_missed() -> None:
    """300 stories with one token changed, just above the limit, are all found."""
    train = stories(300, 2)
    places = np.random.default_rng(3).integers(5, 55, 300)
    validation = [changed(story, [place]) for story, place in zip(train, places, strict=True)]
    assert overlap.overlap(token_file(train), token_file(validation)) == (0.0, 1.0)


def test_the_beginning_of_a_story_is_no_copy() -> None:
    """Stories of a hundred that begin alike (a third of their tokens) count as different."""
    train, opening = stories(200, 4), stories(1, 5)[0][:20]
    alike = [opening + story[20:] for story in train]
    validation = [opening + story[20:] for story in stories(100, 6)]
    assert overlap.overlap(token_file(alike), token_file(validation)) == (0.0, 0.0)


def test_short_stories_are_compared_whole() -> None:
    """Stories of fewer tokens than a shingle: copies count, others do not; also the empty story."""
    train = [[1], [1, 2, 3], [], [7, 8]]
    assert overlap.overlap(token_file(train), token_file([[1, 2, 3], [1, 2], [3], []])) == (0.5, 0.5)


@pytest.mark.timeout(60)
def test_copies_of_one_story_are_not_compared_in_pairs() -> None:
    """20,000 times the same story against itself does not compare all pairs."""
    story = stories(1, 7)[0]
    assert overlap.overlap(token_file([story] * 20_000), token_file([story] * 20_000)) == (1.0, 1.0)


def naive_longest(samples: list[list[int]], stream: list[int]) -> int:
    """By the definition."""
    return max(
        (
            end - start
            for sample in samples
            for start in range(len(sample))
            for end in range(start + 1, len(sample) + 1)
            if any(stream[at : at + end - start] == sample[start:end] for at in range(len(stream)))
        ),
        default=0,
    )


@settings(max_examples=60, deadline=None)
@given(
    samples=st.lists(st.lists(st.integers(0, 3), max_size=10), max_size=3),
    stream=st.lists(st.integers(0, 3), max_size=60),
    chunk=st.integers(1, 70),
)
def test_longest_copy_is_the_longest(samples: list[list[int]], stream: list[int], chunk: int) -> None:
    """For any samples and stream, cut into chunks of any size, the length is the definition's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(copying, "CHUNK", chunk)
        assert longest_copy(samples, np.array(stream, np.uint16)) == naive_longest(samples, stream)


def test_longest_copy_finds_a_run_in_a_long_stream() -> None:
    """37 tokens planted across the border of two chunks of a stream of 3 million tokens are found."""
    stream = np.random.default_rng(8).integers(0, 50_257, 3_000_000).astype(np.uint16)
    place = copying.CHUNK - 10
    sample = [1, 2, 3, *stream[place : place + 37].tolist(), int(stream[place + 37]) ^ 1, 5]
    assert longest_copy([sample, [9] * 200], stream) == 37


def test_equal_stretches_have_equal_hashes_wherever_they_stand() -> None:
    """A stretch has one hash in any array and place; the 10^5 different ones here have different hashes."""
    tokens = np.random.default_rng(9).integers(0, 2**16, 100_000).astype(np.uint16)
    grams = rolling_hash.Rolling(tokens).grams(5)
    shifted = rolling_hash.Rolling(tokens[777:]).grams(5)
    assert np.array_equal(grams[777:], shifted)
    assert np.array_equal(grams[:50], rolling_hash.Rolling(tokens).stretches(np.arange(50), np.arange(5, 55)))
    assert len(np.unique(grams)) == len(grams)
    assert len(np.unique(grams >> np.uint64(32))) > 0.99 * len(grams)
