"""Packed file: the bytes in a compressed file, all of them, or an error."""

from __future__ import annotations

import bz2
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

BLOCK = 1 << 12  # compressed bytes at a time: what they unpack to is held in memory


def _gzip() -> Any:
    return zlib.decompressobj(16 + zlib.MAX_WBITS)


DECODERS: dict[str, Callable[[], Any]] = {".gz": _gzip, ".bz2": bz2.BZ2Decompressor, ".xz": lzma.LZMADecompressor}
ENDINGS = (*DECODERS, ".zst")


def open_packed(path: Path) -> io.BufferedReader:
    """The unpacked bytes of a file whose name ends in one of ENDINGS.

    Reading them raises OSError or EOFError where the file is damaged, has something else behind its last stream, or is cut.
    """
    ending = path.suffix.lower()
    if ending == ".zst":
        return io.BufferedReader(pa.input_stream(path, compression="zstd"))
    return io.BufferedReader(_Unpacked(_blocks(path, DECODERS[ending])))


def _blocks(path: Path, decoder: Callable[[], Any]) -> Iterator[bytes]:
    """What is in the file's streams, one after the other, as pigz and pbzip2 write them.

    Python's own readers take what they cannot decode behind the first stream for padding, and end there without an error.
    """
    with open(path, "rb") as file:
        stream = decoder()
        while block := file.read(BLOCK):
            while block:
                if stream.eof:
                    stream = decoder()
                try:
                    unpacked = stream.decompress(block)
                except (OSError, zlib.error, lzma.LZMAError) as error:
                    raise OSError(f"{error} (before byte {file.tell():,})") from error
                yield unpacked
                block = stream.unused_data
        if not stream.eof:
            raise EOFError("it ends too early")


class _Unpacked(io.RawIOBase):
    """Blocks as a file to read."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks, self._rest = blocks, memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest:
            block = next(self._blocks, None)
            if block is None:
                return 0
            self._rest = memoryview(block)
        count = min(len(buffer), len(self._rest))
        buffer[:count], self._rest = self._rest[:count], self._rest[count:]
        return count
