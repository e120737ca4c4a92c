"""Story file: parquet with a column `text` (and `logprob`, where it is known), written and read in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from stages.common import files

GROUP_STORIES = 8192  # a row group is written at this many stories
GROUP_BYTES = 8 << 20  # or at this many bytes of text, whichever comes first
READING = {"pre_buffer": False, "page_checksum_verification": True}  # a pre-buffer would come to hold the whole file


class _ParquetWriter(pq.ParquetWriter):  # type: ignore[misc]
    """Is not closed when it is collected unfinished: that would write a footer, and fail once more on a full disk."""

    def __del__(self) -> None:
        pass


class StoryWriter:
    """Appends tables of stories to a story file; the same stories give the same bytes, however they are cut into tables."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._file = _ParquetWriter(path, schema, compression="zstd", use_dictionary=False, write_page_checksum=True)
        self._waiting = schema.empty_table()
        self.stories = 0
        self.bytes = 0  # of UTF-8 text

    def add(self, table: pa.Table) -> None:
        """Append the table's rows; they are written when a row group is full."""
        self.stories += len(table)
        self.bytes += _text_bytes(table)
        self._waiting = pa.concat_tables([self._waiting, table])
        while (full := _group_length(self._waiting)) is not None:
            self._write(full)

    def finish(self) -> None:
        """Write what waits and the file's footer."""
        if len(self._waiting):
            self._write(len(self._waiting))
        self._file.close()

    def _write(self, rows: int) -> None:
        self._file.write_table(self._waiting.slice(0, rows).combine_chunks(), row_group_size=rows)
        self._waiting = self._waiting.slice(rows)


@contextmanager
def writing(path: Path, schema: pa.Schema) -> Iterator[StoryWriter]:
    """Open a story file to write; it appears, whole, when the block ends without an error."""
    with files.atomic(path) as temporary:
        writer = StoryWriter(temporary, schema)
        yield writer
        writer.finish()


def count(path: Path) -> int:
    """How many stories the file holds."""
    return int(_open(path).metadata.num_rows)


def read(path: Path, batch: int = 4096) -> Iterator[list[str]]:
    """The stories' texts in order, `batch` at a time.

    Raises:
        UserError: the file is missing or damaged.
    """
    with _open(path) as file:
        try:
            for rows in file.iter_batches(batch_size=batch, columns=["text"], use_threads=False):
                yield rows.column(0).to_pylist()
        except (pa.ArrowException, OSError) as error:
            raise files.damaged(path, error, "download") from error


def logprobs(path: Path) -> NDArray[np.float64] | None:
    """Each story's natural log-probability, (S,); None where it is not known.

    Raises:
        UserError: the file is missing or damaged.
    """
    with _open(path) as file:
        if "logprob" not in file.schema_arrow.names:
            return None
        try:
            return np.asarray(file.read(columns=["logprob"]).column(0).to_numpy(), np.float64)
        except (pa.ArrowException, OSError) as error:
            raise files.damaged(path, error, "download") from error


def _open(path: Path) -> pq.ParquetFile:
    files.require(path, made_by="download")
    try:
        file = pq.ParquetFile(path, **READING)
        if "text" not in file.schema_arrow.names:
            raise pa.ArrowInvalid("it has no column text")
        return file
    except (pa.ArrowException, OSError) as error:
        raise files.damaged(path, error, "download") from error


def _group_length(table: pa.Table) -> int | None:
    """How many of the first rows make a full row group; None = too few yet. Depends on the rows only, not on chunks."""
    first = table.slice(0, GROUP_STORIES)
    if _text_bytes(first) >= GROUP_BYTES:
        sizes = pc.cumulative_sum(pc.cast(pc.binary_length(first["text"]), pa.int64()))
        return int(pc.sum(pc.less(sizes, GROUP_BYTES)).as_py() or 0) + 1
    return GROUP_STORIES if len(first) == GROUP_STORIES else None


def _text_bytes(rows: Any) -> int:
    return int(pc.sum(pc.binary_length(rows["text"])).as_py() or 0)
