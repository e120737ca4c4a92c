"""Data file: a file of stories, unpacked and decoded, and named in every message about it."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from stages.common.errors import UserError

PACKED = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}  # a compressed file's ending -> Arrow's name of its codec
LFS_POINTER = re.compile(rb"version https?://\S+\s+(ext-\S+ \S+\s+)*oid \w+:[0-9a-f]{40,}\s")


def printable_path(path: Path | str) -> str:
    """A path as it can be printed: bytes of a file name that are not UTF-8 are written as `\\xe9`."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


@dataclass(frozen=True)
class DataFile:
    """A file of stories."""

    name: str  # in messages
    path: Path

    def open(self) -> Any:
        """The file's bytes, unpacked if its name says that it is compressed.

        Arrow reads all streams of such a file, as pigz and pbzip2 write them. Python's own readers take what they cannot decode
        behind the first stream for padding, and end there without an error.
        """
        codec = PACKED.get(self.path.suffix.lower())
        return io.BufferedReader(pa.input_stream(self.path, compression=codec)) if codec else open(self.path, "rb")

    def text(self, newline: str | None = None) -> io.TextIOWrapper:
        """The file's text without a byte order mark; `newline` is `open`'s."""
        return io.TextIOWrapper(self.open(), encoding="utf-8-sig", newline=newline)

    def check_packed(self) -> None:
        """Unpack the whole file, if its name says that it is compressed: damage behind the stories taken counts too."""
        if self.path.suffix.lower() in PACKED:
            with self.explained(), self.open() as opened:
                while opened.read(1 << 20):
                    pass

    def is_lfs_pointer(self) -> bool:
        """Whether git put the three lines of a Git LFS pointer in the place of the file, whatever its name says that it is."""
        with self.explained(), open(self.path, "rb") as file:
            return LFS_POINTER.match(file.read(1024)) is not None

    def error(self, why: str, remedy: str) -> UserError:
        """The error for a file that is not what it should be."""
        return UserError(f"dataset: {self.name} cannot be read: {why}. {remedy}")

    def no_text(self, columns: Iterable[object]) -> UserError:
        """The error for a file without a column `text`."""
        return UserError(
            f"dataset: {self.name} has no column `text`; it has {', '.join(map(str, columns))[:1000]}. "
            "Rename the column that holds the stories to `text`, or give another data set"
        )

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Turn what the libraries raise about the file into one sentence."""
        try:
            yield
        except UnicodeDecodeError as error:
            raise self._not_utf8() from error
        except PermissionError as error:
            raise UserError(f"dataset: {self.name}: permission denied. Make it readable") from error
        except (pa.ArrowException, ValueError, OSError) as error:
            what = (getattr(error, "strerror", None) or str(error) or type(error).__name__).splitlines()[0].rstrip(".")
            raise self.error(what, "The file may be truncated, or its extension may not match its content") from error

    def _not_utf8(self) -> UserError:
        """The error for a file in another encoding; it is read again to find the line."""
        where = "the file"
        with self.open() as lines:
            for number, line in enumerate(lines, start=1):
                try:
                    line.decode()
                except UnicodeDecodeError as error:
                    where = f"line {number:,} holds the byte 0x{line[error.start]:02x}"
                    break
        return UserError(
            f"dataset: {self.name} is not UTF-8 text ({where}). Convert it: iconv -f WINDOWS-1252 -t UTF-8 OLD > NEW, "
            "with UTF-16 or another name in place of WINDOWS-1252 if that is its encoding"
        )
