"""Open source: the storybook; local files and the Hub have tests of their own."""

from __future__ import annotations

from itertools import islice

import pyarrow as pa

from stages.sources.open_source import BATCH, open_source
from stages.sources.source import SplitReader
from stages.storybook import story as storybook


def test_the_storybook_keeps_its_order_and_its_seeds() -> None:
    """Train and validation are the storybook's stories of their own seeds, with log-probabilities, batch after batch."""
    count = BATCH + 5
    chosen = SplitReader(open_source("storybook", None), "train", count)
    table = pa.concat_tables(chosen)
    expected = list(storybook.stories(count, storybook.TRAIN_SEED))
    assert table["text"].to_pylist() == [story.text for story in expected]
    assert table["logprob"].to_pylist() == [story.logprob for story in expected]
    validation = pa.concat_tables(SplitReader(open_source("storybook", "ignored"), "validation", 3))["text"].to_pylist()
    assert validation == [story.text for story in storybook.stories(3, storybook.VALIDATION_SEED)]


def test_the_storybook_is_lazy() -> None:
    """A billion stories cost nothing until they are taken."""
    chosen = iter(SplitReader(open_source("storybook", None), "train", 10**9))
    assert all(len(table) == BATCH for table in islice(chosen, 2))
