"""Open source: the storybook; local files and the Hub have tests of their own."""

from __future__ import annotations

from itertools import islice

from stages.sources.open_source import BATCH, open_source
from stages.sources.source import SplitReader


def test_the_storybook_is_lazy() -> None:
    """A billion stories cost nothing until they are taken."""
    chosen = iter(SplitReader(open_source("storybook", None), "train", 10**9))
    assert all(len(table) == BATCH for table in islice(chosen, 2))
