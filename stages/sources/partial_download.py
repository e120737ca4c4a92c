"""Parts: what an unfinished download has read of a remote file, kept so that the next attempt goes on behind it.

A part is a parquet file of rows, named by the number of its first row, in a folder named by the remote file's address, which
holds its commit. It is written atomically, with a checksum on each page. What a part says is true whoever wrote it, so two
downloads at once do no harm.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from stages.common import files

ROWS, BYTES = 16_384, 16 << 20  # a part is written when it has one or the other


class Parts:
    """The parts of the remote file at `address`, in a folder of their own below `folder`."""

    def __init__(self, folder: Path, address: str) -> None:
        self._folder = folder / hashlib.sha256(address.encode()).hexdigest()[:16]
        self._next = 0  # first row of the part to come
        self._waiting: list[pa.Table] = []

    def kept(self) -> Iterator[pa.Table]:
        """The rows of an earlier attempt in order, up to the first part that is missing or damaged."""
        with suppress(pa.ArrowException, OSError):
            while True:
                with pq.ParquetFile(self._path(), pre_buffer=False, page_checksum_verification=True) as file:
                    table = file.read(use_threads=False)
                self._next += len(table)
                yield table

    def keep(self, table: pa.Table) -> None:
        """Keep rows that follow the last ones."""
        self._waiting.append(table)
        whole = pa.concat_tables(self._waiting)
        if len(whole) >= ROWS or whole.nbytes >= BYTES:
            with suppress(pa.ArrowException, OSError), files.atomic(self._path()) as temporary:  # an aid: never in the way
                pq.write_table(whole, temporary, compression="zstd", write_page_checksum=True)
            self._next += len(whole)
            self._waiting = []

    def _path(self) -> Path:
        return self._folder / f"{self._next:012d}.parquet"


def forget(folder: Path) -> None:
    """The download is whole: remove all parts."""
    shutil.rmtree(folder, ignore_errors=True)
