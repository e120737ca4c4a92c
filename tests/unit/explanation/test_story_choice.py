"""The page shows the same stories each time, whole where it can."""

from __future__ import annotations

from tiny import END, token_file

from stages.explanation.story_choice import choose, spread

SPLIT = token_file([[index + 1] * length for index, length in enumerate([30, 9, 12, 60, 50, 70, 20, 8])])


def test_stories_are_whole_where_that_fits() -> None:
    """Of each part of the split: a story that fits best, else one that fits, else a beginning."""
    found = choose(SPLIT, 4, best=16, most=25)
    assert [story.number for story in found] == [2, 3, 5, 8]
    assert [story.whole for story in found] == [True, True, False, True]
    first, _, cut, _ = found
    assert first.tokens == [END, *[2] * 9]
    assert first.targets == [*[2] * 9, END]
    assert cut.tokens == [END, *[5] * 24]
    assert cut.targets == [5] * 25


def test_a_small_split_is_shown_whole() -> None:
    """All of them then, each once."""
    assert [story.number for story in choose(SPLIT, 99, best=16, most=25)] == list(range(1, 9))


def test_measured_stories_are_spread_over_the_split() -> None:
    """From the first to the last, cut to what fits."""
    assert [len(tokens) for tokens in spread(SPLIT, 3, 25)] == [25, 25, 9]
    assert len(list(spread(SPLIT, 99, 25))) == 8
