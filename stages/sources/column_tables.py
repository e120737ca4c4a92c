"""Column tables: stories from the column `text` of parquet and Arrow files."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from stages.common.errors import UserError
from stages.sources.data_file import DataFile
from stages.sources.source import TEXT

BATCH = 2048  # rows a table
FILE_MAGIC = b"ARROW1"  # Arrow files begin with it; streams, which `Dataset.save_to_disk` writes, do not


def parquet(file: DataFile, skip: int) -> Iterator[pa.Table]:
    """The rows of a parquet file from number `skip` on, read on this thread only.

    The reader of `datasets` leaves threads behind when it is stopped early: the process then hangs or crashes at its end, now
    and then (github.com/apache/arrow/issues/45214, seen with pyarrow 25.0).
    """
    row = 0
    with file.open() as opened, pq.ParquetFile(opened, pre_buffer=False, buffer_size=1 << 20) as table:
        _the_column(file, table.schema_arrow)
        for group in range(table.num_row_groups):
            rows = table.metadata.row_group(group).num_rows
            if row + rows <= skip:
                row += rows
                continue
            for batch in table.iter_batches(BATCH, [group], ["text"], use_threads=False):
                yield from _behind(skip, row, _as_text(file, batch.column(0), row))
                row += len(batch)


def arrow(file: DataFile, skip: int) -> Iterator[pa.Table]:
    """The rows of an Arrow file or stream from number `skip` on."""
    row = 0
    with file.open() as opened:
        start = opened.read(len(FILE_MAGIC))
        opened.seek(0)
        read: Any = pa.ipc.open_file if start == FILE_MAGIC else pa.ipc.open_stream
        with read(opened) as reader:
            column = _the_column(file, reader.schema)
            batches = map(reader.get_batch, range(reader.num_record_batches)) if start == FILE_MAGIC else reader
            for batch in batches:
                yield from _behind(skip, row, _as_text(file, batch.column(column), row))
                row += len(batch)


def _the_column(file: DataFile, schema: pa.Schema) -> int:
    """The number of the column `text`, of which there must be one, of texts or of their UTF-8 bytes."""
    if schema.names.count("text") > 1:
        raise file.refusal(f"it has {schema.names.count('text')} columns `text`", "Rename all but one")
    if "text" not in schema.names:
        raise file.no_text(schema.names)
    if not _is_text(kind := schema.field("text").type):
        raise UserError(f"dataset: {file.name}: the column `text` holds {kind}, not text. Give a data set with one story a row")
    return int(schema.names.index("text"))


def _is_text(kind: pa.DataType) -> bool:
    """Whether a column of this type holds text, or bytes that may be text; one of nulls only holds blank stories."""
    kind, types = kind.value_type if pa.types.is_dictionary(kind) else kind, pa.types
    text = types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)
    return bool(
        text or types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind) or types.is_null(kind)
    )


def _as_text(file: DataFile, column: pa.Array, row: int) -> pa.Table:
    """The column as valid UTF-8; `row` is the number of rows before it."""
    try:
        table = pa.table({"text": column.cast(pa.string())}, schema=TEXT)
        table.validate(full=True)
        return table
    except pa.ArrowInvalid as error:
        for number, value in enumerate(column.cast(pa.binary()), start=row + 1):
            try:
                (value.as_py() or b"").decode()
            except UnicodeDecodeError as wrong:
                why = f"row {number:,} of `text` is not UTF-8 ({wrong.reason} at byte {wrong.start})"
                raise file.refusal(why, "Write the column again as UTF-8") from error
        raise


def _behind(skip: int, row: int, table: pa.Table) -> Iterator[pa.Table]:
    """The part of a table that begins at row `row` which is not skipped."""
    if len(rest := table.slice(max(0, skip - row))):
        yield rest
