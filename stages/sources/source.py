"""Source: where stories come from, and a split of it read in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stages.common.errors import UserError

HOLD_OUT = 10  # without a validation split, every tenth story is validation's, and no other
TEXT = pa.schema([("text", pa.string())])


@dataclass(frozen=True)
class Source:
    """Where to read stories, and what to say about it in about.json."""

    dataset: str
    revision: str | None
    licence: str | None
    schema: pa.Schema
    splits: dict[str, str]  # "train" and, if there is one, "validation" -> the source's own name for it
    tables: Callable[[str], Iterator[pa.Table]]  # the source's own name of a split -> its stories in order, blank ones too
    files: dict[str, str] = field(default_factory=dict)  # a local source's files -> their sha256
    done: Callable[[], None] = lambda: None  # called when all that was asked for is written


class Stories:
    """A split's stories as tables, without blank ones, at most `limit` (None = all); counts the blank ones it passed."""

    def __init__(self, source: Source, split: str, limit: int | None) -> None:
        self._source, self._split, self._limit = source, split, limit
        self.blank = 0

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
        blank = f"only {self.blank:,} blank ones" if self.blank else "none at all"
        return f"has no stories in its split {self._source.splits[self._split]}, {blank}. Give another data set"

    def _chosen(self) -> Iterator[pa.Table]:
        """The split's own stories; without a validation split, its share of the training stories."""
        if "validation" in self._source.splits:
            yield from self._told(self._source.splits[self._split])
            return
        seen = 0
        for table in self._told(self._source.splits["train"]):
            held_out = (seen + np.arange(len(table))) % HOLD_OUT == HOLD_OUT - 1
            seen += len(table)
            yield table.filter(pa.array(held_out == (self._split == "validation")))

    def _told(self, name: str) -> Iterator[pa.Table]:
        """The stories that are not blank, checked."""
        columns = self._source.schema.names
        for table in self._source.tables(name):
            if missing := [column for column in columns if column not in table.column_names]:
                raise UserError(
                    f"dataset: {self._source.dataset} has no column `{missing[0]}`; it has {', '.join(table.column_names)}. "
                    "Rename the column that holds the stories to `text`, or give another data set"
                )
            if not _is_text(table["text"].type):
                raise UserError(
                    f"dataset: {self._source.dataset}: the column `text` holds {table['text'].type}, not text. "
                    "Give a data set with one story a row"
                )
            try:
                table = table.select(columns).cast(self._source.schema)
                table.validate(full=True)
            except pa.ArrowInvalid as error:
                raise UserError(
                    f"dataset: {self._source.dataset} holds text that is not UTF-8 ({error}). Convert it: iconv -t UTF-8"
                ) from error
            told = pc.fill_null(pc.greater(pc.binary_length(pc.utf8_trim_whitespace(table["text"])), 0), False)
            self.blank += len(table) - int(pc.sum(told).as_py() or 0)
            yield table.filter(told)


def _is_text(kind: pa.DataType) -> bool:
    """Whether a column of this type holds text; one of nulls only may do so further on."""
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    types = pa.types
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind) or types.is_null(kind))
