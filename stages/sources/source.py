"""Source: where stories come from, and a split of it read in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stages.common.terminal import pluralize
from stages.corpus.tokenizer import END_OF_TEXT

HOLD_OUT = 10  # without a validation split, every tenth story is validation's, and no other
TEXT = pa.schema([("text", pa.string())])

# The source's own name of a split and about how many stories will be taken (None = all) -> its stories in order, blank ones too
Tables = Callable[[str, int | None], Iterator[pa.Table]]


@dataclass(frozen=True)
class Source:
    """Where to read stories, and what to say about it in about.json."""

    dataset: str
    revision: str | None
    license: str | None
    schema: pa.Schema
    splits: dict[str, str]  # "train" and, if there is one, "validation" -> the source's own name for it
    tables: Tables
    files: dict[str, str] = field(default_factory=dict)  # a local source's files -> their sha256


def splits_of(names: Collection[str]) -> dict[str, str]:
    """`splits` of a source that has these; its test split serves for validation where it has no validation split."""
    held_out = next((name for name in ("validation", "test") if name in names), None)
    return {"train": "train"} | ({"validation": held_out} if held_out else {})


class SplitReader:
    """A split's stories as tables, without blank ones, at most `limit` (None = all).

    `blank` counts the blank stories passed, `marked` the stories with the letters `<|endoftext|>` in them.
    """

    def __init__(self, source: Source, split: str, limit: int | None) -> None:
        self._source, self._split, self._limit = source, split, limit
        self.blank = self.marked = 0

    def __iter__(self) -> Iterator[pa.Table]:
        left = self._limit
        for table in self._chosen():
            yield table if left is None else table.slice(0, left)
            if left is not None and (left := left - len(table)) <= 0:
                return

    def why_none(self) -> str:
        """What to tell the user when the split turned out to be empty."""
        if self._split == "validation" and "validation" not in self._source.splits:
            return (
                f"has no validation split, and too few stories to hold every {HOLD_OUT}th out for one. "
                "Give a folder with files named train* and validation*"
            )
        blank = f"only {pluralize(self.blank, 'blank one')}" if self.blank else "none at all"
        return f"has no stories in its split {self._source.splits[self._split]}, {blank}. Give another data set"

    def _chosen(self) -> Iterator[pa.Table]:
        """The split's own stories; without a validation split, its share of the training stories."""
        if "validation" in self._source.splits:
            yield from self._not_blank(self._source.splits[self._split], self._limit)
            return
        seen = 0
        for table in self._not_blank(self._source.splits["train"], self._limit and self._limit * HOLD_OUT):
            held_out = (seen + np.arange(len(table))) % HOLD_OUT == HOLD_OUT - 1
            seen += len(table)
            yield table.filter(pa.array(held_out == (self._split == "validation")))

    def _not_blank(self, name: str, limit: int | None) -> Iterator[pa.Table]:
        """The stories that are not blank."""
        for table in self._source.tables(name, limit):
            text = table["text"]
            kept = pc.fill_null(pc.greater(pc.binary_length(pc.utf8_trim_whitespace(text)), 0), False)
            self.blank += len(table) - _count(kept)
            self.marked += _count(pc.match_substring(text, END_OF_TEXT))
            yield table.filter(kept)


def _count(flags: pa.ChunkedArray) -> int:
    return int(pc.sum(flags).as_py() or 0)
