"""Data file: a file of stories, here or on the Hub: opened, unpacked, decoded, and named in every message about it."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import os
import shlex
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

from stages.common.errors import UserError

BLOCK = 1 << 20  # bytes read at a time
UNPACKERS: dict[str, tuple[Callable[[Any], Any], str]] = {  # file name ends in -> reader, the command that does the same
    ".gz": (lambda file: gzip.GzipFile(fileobj=file), "gzip -dc"),
    ".bz2": (bz2.BZ2File, "bzip2 -dc"),
    ".xz": (lzma.LZMAFile, "xz -dc"),
    ".zst": (lambda file: pa.CompressedInputStream(pa.PythonFile(file, mode="r"), "zstd"), "zstd -dc"),
}


def show(path: Path | str) -> str:
    """A path as it can be printed: bytes of a file name that are not UTF-8 are written as `\\xe9`."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


@dataclass(frozen=True)
class DataFile:
    """A file of stories."""

    name: str  # in messages
    address: str  # a path, or an address of the Hub (hf://...)
    remote: bool = False
    _said: set[str] = field(default_factory=set, compare=False)

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """The file's bytes, unpacked if its name says that it is packed."""
        with self._opened() as packed:
            unpack, _ = UNPACKERS.get(self._packing, (None, ""))
            try:
                if unpack is None:
                    yield packed
                else:
                    with unpack(packed) as unpacked:
                        yield unpacked
            except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
                raise self.refusal(f"{error}".rstrip("."), "Is it whole, and what its ending says?") from error

    def text(self, newlines: bool = False) -> Iterator[str]:
        """The file's characters in pieces, without a byte order mark; `newlines`: with every line end as `\\n`.

        Raises:
            UserError: the file is not UTF-8; the message names the line and the command that converts it.
        """
        decoder = codecs.getincrementaldecoder("utf-8-sig")()
        translator = io.IncrementalNewlineDecoder(None, translate=True)
        lines, block = 1, b"-"
        with self.open() as file:
            while block:
                block = file.read(BLOCK)
                try:
                    piece = decoder.decode(block, final=not block)
                except UnicodeDecodeError as error:
                    line = lines + error.object.count(b"\n", 0, error.start)
                    raise self._not_utf8(line, error.object[error.start], error.object) from error
                lines += piece.count("\n")
                yield translator.decode(piece, final=not block) if newlines else piece

    def lines(self) -> Iterator[str]:
        """The file's lines with their ends, `\\n`, `\\r` or `\\r\\n`, as they are."""
        parts: list[str] = []
        for piece in self.text():
            parts.append(piece)
            if "\n" in piece or "\r" in piece:
                *whole, last = io.StringIO("".join(parts), newline="").readlines()
                yield from whole
                parts = [last]  # a line end may be cut in two here
        yield from io.StringIO("".join(parts), newline="")

    def holds(self, word: bytes, read: Callable[[int], object]) -> bool:
        """Whether the bytes are anywhere in the file; `read` is called with the number of bytes read."""
        edge = b""
        with self.open() as file:
            while block := file.read(BLOCK):
                if word in (seen := edge + block):
                    return True
                edge = seen[1 - len(word) :]
                read(len(block))
        return False

    def refusal(self, why: str, remedy: str) -> UserError:
        """The error for a file that is not what it should be."""
        return UserError(f"dataset: {self.name} cannot be read: {why}. {remedy}")

    def no_text(self, columns: Iterable[object]) -> UserError:
        """The error for a file without a column `text`."""
        return UserError(
            f"dataset: {self.name} has no column `text`; it has {', '.join(map(str, columns))[:1000]}. "
            "Rename the column that holds the stories to `text`, or give another data set"
        )

    def note(self, text: str) -> None:
        """Print a note about the file, once."""
        if text not in self._said:
            self._said.add(text)
            print(f"note: {self.name}: {text}", file=sys.stderr)

    @property
    def _packing(self) -> str:
        """What the file is packed with, by its name."""
        return next((ending for ending in UNPACKERS if self.address.lower().endswith(ending)), "")

    @contextmanager
    def _opened(self) -> Iterator[BinaryIO]:
        if self.remote:
            import fsspec

            with fsspec.open(self.address, "rb") as file:
                yield file
            return
        try:
            local = open(self.address, "rb")  # noqa: SIM115
        except PermissionError as error:
            raise UserError(f"dataset: {self.name}: permission denied. Make it readable") from error
        with local:
            yield local

    def _not_utf8(self, line: int, byte: int, start: bytes) -> UserError:
        """The error for a file in another encoding, with the command that converts exactly this file."""
        encoding = "UTF-16" if start[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "WINDOWS-1252"
        path = Path(self.address).name if self.remote else self.address
        plain = Path(path[: len(path) - len(self._packing)])
        source, target = shlex.quote(path), shlex.quote(str(plain.with_name(f"{plain.stem}.utf8{plain.suffix}")))
        unpack = f"{UNPACKERS[self._packing][1]} {source} | " if self._packing else ""
        words = f"{unpack}iconv -f {encoding} -t UTF-8{'' if unpack else f' {source}'} > {target}"
        return UserError(
            f"dataset: {self.name} is not UTF-8 text (line {line:,} holds the byte 0x{byte:02x}). "
            f"Convert it: {words} (if {encoding} is its encoding). Then give the new file in its place"
        )
