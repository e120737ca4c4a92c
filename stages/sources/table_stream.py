"""Streaming: the package `datasets`, imported late and set up so that tables pass through in bounded memory."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from stages.sources.partial_download import Parts

BATCH = 2048  # rows a table
TRIES, WAIT = 3, 10.0  # times and seconds to wait for a lost connection, after huggingface_hub's own 5 times and 23 seconds


def library() -> Any:
    """`datasets` itself: 0.6 s to import, 2 s more if it may look for torch. It is not let to report what it loads."""
    os.environ.setdefault("USE_TORCH", "0")
    os.environ.setdefault("HF_UPDATE_DOWNLOAD_COUNTS", "0")  # or local files too would need the network
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    import datasets

    datasets.logging.set_verbosity(datasets.logging.CRITICAL)  # our own messages say what is wrong
    datasets.disable_progress_bars()
    datasets.config.STREAMING_READ_MAX_RETRIES = TRIES  # of files that are not parquet
    return datasets


def tables(builder: Any, split: str, columns: list[str], unfinished: Path | None = None) -> Iterator[pa.Table]:
    """A split's rows in order, from a builder of `datasets`; of parquet files no other column is read.

    `unfinished` is the folder where parquet rows are kept for another attempt (None = nowhere: the files are here anyway).

    Parquet goes past the reader of `datasets`, which leaves threads behind when it is stopped early: the process then
    hangs or crashes at its end, now and then (github.com/apache/arrow/issues/45214, seen with pyarrow 25.0).
    """
    if builder.name == "parquet" or hasattr(builder.config, "fragment_scan_options"):
        for url in builder.config.data_files[split]:
            yield from _parquet(url, columns, Parts(unfinished, url) if unfinished else None)
    else:
        if hasattr(builder, "_cast_table"):  # of JSON and CSV
            builder._cast_table = partial(_take, columns, builder._cast_table)
        yield from builder.as_streaming_dataset(split=split).with_format("arrow").iter(batch_size=BATCH)


def _take(columns: list[str], cast: Callable[..., pa.Table], table: pa.Table, *more: Any, **options: Any) -> pa.Table:
    """The wanted columns of a part of a JSON or CSV file, as they are.

    `datasets` casts each part to the first one's columns, and fails where another column comes, goes or changes its kind.
    """
    known = [column for column in columns if column in table.column_names]
    if not known:
        return cast(table, *more, **options)
    table = table.select(known)
    nulls = [pa.field(field.name, pa.string()) if pa.types.is_null(field.type) else field for field in table.schema]
    return table.cast(pa.schema(nulls))


def _parquet(url: str, columns: list[str], parts: Parts | None) -> Iterator[pa.Table]:
    """The rows of one parquet file, here or on the Hub. A broken connection is taken up again behind the last row read."""
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError

    done = failures = 0
    for table in parts.kept() if parts else ():
        done += len(table)
        yield table
    while True:
        try:
            for table in _rows(url, columns, done):
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


def _rows(url: str, columns: list[str], skip: int) -> Iterator[pa.Table]:
    """The rows of one parquet file from number `skip` on, read on this thread only."""
    import fsspec
    import pyarrow.parquet as pq

    with fsspec.open(url, "rb") as file, pq.ParquetFile(file, pre_buffer=False, buffer_size=1 << 20) as parquet:
        known = [column for column in columns if column in parquet.schema_arrow.names] or parquet.schema_arrow.names
        for group in range(parquet.num_row_groups):
            rows = parquet.metadata.row_group(group).num_rows
            if skip >= rows:
                skip -= rows
                continue
            for batch in parquet.iter_batches(BATCH, [group], known, use_threads=False):
                passed = min(skip, len(batch))
                skip -= passed
                if passed < len(batch):
                    yield pa.Table.from_batches([batch.slice(passed)])
