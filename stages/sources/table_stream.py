"""Table stream: a file's stories as tables in bounded memory, whatever its format; a lost connection is taken up again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pyarrow as pa

from stages.sources import column_tables, csv_rows, json_rows, txt_rows
from stages.sources.data_file import DataFile
from stages.sources.partial_download import Parts
from stages.sources.source import TEXT

Reader = Callable[[DataFile, int], Iterator[pa.Table]]  # a file's stories from a row on
BATCH, CHARACTERS = 2048, 1 << 23  # most rows and characters of a table
TRIES, WAIT = 3, 10.0  # retries, and seconds between them, once huggingface_hub's own (5 in 23 s) are used up


def of_rows(rows: Callable[[DataFile], Iterator[str | None]]) -> Reader:
    """The reader of a format that is read row by row."""

    def tables(file: DataFile, skip: int) -> Iterator[pa.Table]:
        done = characters = 0
        batch: list[str | None] = []
        for text in rows(file):
            if done + len(batch) < skip:
                done += 1
                continue
            batch.append(text)
            characters += len(text or "")
            if len(batch) == BATCH or characters >= CHARACTERS:
                yield _table(file, batch, done)
                done, characters, batch = done + len(batch), 0, []
        if batch:
            yield _table(file, batch, done)

    return tables


READERS: dict[str, Reader] = {
    "json": of_rows(json_rows.rows),
    "csv": of_rows(partial(csv_rows.rows, delimiter=",")),
    "tsv": of_rows(partial(csv_rows.rows, delimiter="\t")),
    "text": of_rows(txt_rows.lines),
    "separated text": of_rows(txt_rows.separated),
    "parquet": column_tables.parquet,
    "arrow": column_tables.arrow,
}


def tables(file: DataFile, reader: str, unfinished: Path | None = None) -> Iterator[pa.Table]:
    """A file's rows in order.

    `unfinished` is the folder where the rows of a remote file are kept for another attempt (None = nowhere).
    """
    if not file.remote:
        yield from READERS[reader](file, 0)
        return
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError

    parts = Parts(unfinished, file.address) if unfinished else None
    done = failures = 0
    for table in parts.kept() if parts else ():
        done += len(table)
        yield table
    while True:
        try:
            for table in READERS[reader](file, done):
                done += len(table)
                failures = 0
                if parts:
                    parts.keep(table)
                yield table
            return
        except (httpx2.RequestError, HfHubHTTPError, ConnectionError, TimeoutError):
            failures += 1
            if failures == TRIES:
                raise
            time.sleep(WAIT)


def _table(file: DataFile, texts: list[str | None], row: int) -> pa.Table:
    """The texts as a table; `row` is the number of rows before them."""
    try:
        return pa.table({"text": texts}, schema=TEXT)
    except UnicodeEncodeError as error:
        number = next(i for i, text in enumerate(texts, start=row + 1) if not _is_unicode(text or ""))
        raise file.refusal(
            f"row {number:,} holds half a character in `text` (a lone surrogate)", "Correct or remove it"
        ) from error


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
