"""Sources: which stories a split gets, whatever it is read from."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.sources.source import TEXT, Source, SplitReader


def source(*tables: pa.Table, splits: tuple[str, ...] = ("train", "validation")) -> Source:
    """A source that yields these tables for every split."""
    return Source("mine", None, None, TEXT, {split: split for split in splits}, lambda split, limit: iter(tables))


def texts(chosen: SplitReader) -> list[str]:
    return [text for table in chosen for text in table["text"].to_pylist()]


def numbered(count: int, at_a_time: int) -> list[pa.Table]:
    rows = [str(i) for i in range(count)]
    return [pa.table({"text": rows[i : i + at_a_time]}) for i in range(0, count, at_a_time)]


@settings(deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 70) | st.none())
def test_at_most_the_limit(count: int, at_a_time: int, limit: int | None) -> None:
    """A split is the first `limit` stories, or all, however the source cuts them into tables."""
    chosen = SplitReader(source(*numbered(count, at_a_time)), "train", limit)
    assert texts(chosen) == [str(i) for i in range(count)][:limit]


def test_no_more_is_read_than_needed() -> None:
    """When the limit is reached, the source is not asked for another table."""
    read = []

    def tables(split: str, limit: int | None) -> Iterator[pa.Table]:
        for table in numbered(100, 10):
            read.append(len(table))
            yield table

    chosen = SplitReader(Source("mine", None, None, TEXT, {"train": "train", "validation": "v"}, tables), "train", 20)
    assert len(texts(chosen)) == sum(read) == 20


@settings(deadline=None)
@given(st.integers(1, 95), st.integers(1, 40))
def test_every_tenth_is_held_out(count: int, at_a_time: int) -> None:
    """Without a validation split every tenth story is validation's, the others are train's, whatever the tables."""
    held = source(*numbered(count, at_a_time), splits=("train",))
    validation, train = (texts(SplitReader(held, split, None)) for split in ("validation", "train"))
    assert validation == [str(i) for i in range(9, count, 10)]
    assert train == [str(i) for i in range(count) if i % 10 != 9]


def test_blank_stories_are_dropped_and_counted() -> None:
    """Empty, white and missing texts are no stories; any other is kept as it is, with its white space."""
    table = pa.table({"text": ["a", "", " \n\t\u3000", None, " b\n"], "other": [1, 2, 3, 4, 5]})
    chosen = SplitReader(source(table, table), "train", None)
    assert texts(chosen) == ["a", " b\n"] * 2
    assert chosen.blank == 6


def test_stories_with_separators_in_them_are_counted() -> None:
    """Letters that look like a story's end are kept, and counted for the note about them."""
    chosen = SplitReader(source(pa.table({"text": ["a<|endoftext|>b", "c", "<|endoftext|>"]})), "train", None)
    assert texts(chosen) == ["a<|endoftext|>b", "c", "<|endoftext|>"]
    assert chosen.marked == 2
