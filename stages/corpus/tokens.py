"""Token file: a corpus as one stream of uint16 token ids with the stories' offsets, written once, read as a memory map.

The stream is [EOT] story 0 [EOT] story 1 [EOT] ... [EOT]: the first end-of-text is context only, every other token is
a target. Story i's targets, its tokens and its closing end-of-text, are stream[offsets[i]:offsets[i + 1]].
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from stages.common import files
from stages.common.errors import UserError

CHUNK = 1 << 20  # tokens rewritten at a time


class TokenWriter:
    """Appends stories to a token file in memory that does not depend on its length; `writing` opens one."""

    def __init__(self, stream: IO[bytes], offsets: IO[bytes], end_of_text: int) -> None:
        self._stream, self._offsets, self._end_of_text = stream, offsets, end_of_text
        self.stories = 0
        self.length = 0  # of the stream
        for file, dtype in ((stream, "<u2"), (offsets, "<i8")):
            _write_header(file, dtype, 0)
        self._append(np.array([end_of_text], dtype="<u2"))
        self._offsets.write(np.array([1], dtype="<i8").tobytes())

    def add(self, ids: NDArray[Any], counts: NDArray[np.int64]) -> None:
        """Append stories: `ids` are their tokens end to end (N,), `counts` how many each has (S,), end-of-text aside."""
        ends = np.cumsum(counts + 1)  # (S,) in the block to write, behind each story's end-of-text
        block = np.empty(len(ids) + len(counts), dtype="<u2")
        text = np.ones(len(block), dtype=bool)
        text[ends - 1] = False
        block[text] = ids
        block[~text] = self._end_of_text
        self._offsets.write((ends + self.length).astype("<i8").tobytes())
        self._append(block)
        self.stories += len(counts)

    def renumber(self, table: NDArray[np.uint16], end_of_text: int) -> None:
        """Replace every id of the stream by its entry in `table`, in place; `end_of_text` is the new id of that token."""
        position = self._stream.seek(0, 2) - 2 * self.length
        for start in range(0, self.length, CHUNK):
            count = min(CHUNK, self.length - start)
            self._stream.seek(position + 2 * start)
            ids = np.frombuffer(self._stream.read(2 * count), dtype="<u2")
            self._stream.seek(position + 2 * start)
            self._stream.write(table[ids].astype("<u2").tobytes())
        self._end_of_text = end_of_text

    def finish(self) -> None:
        """Write the true lengths into the headers."""
        for file, dtype, length in ((self._stream, "<u2", self.length), (self._offsets, "<i8", self.stories + 1)):
            file.seek(0)
            _write_header(file, dtype, length)
            file.flush()

    def _append(self, block: NDArray[np.uint16]) -> None:
        self._stream.write(block.tobytes())
        self.length += len(block)


@contextmanager
def writing(folder: Path, split: str, end_of_text: int) -> Iterator[TokenWriter]:
    """Open a token file to write; both of its files appear, whole, when the block ends without an error."""
    with (
        files.atomic(_stream_path(folder, split)) as stream_path,
        files.atomic(_offsets_path(folder, split)) as offsets_path,
        open(stream_path, "wb+") as stream,
        open(offsets_path, "wb+") as offsets,
    ):
        writer = TokenWriter(stream, offsets, end_of_text)
        yield writer
        writer.finish()


@dataclass(frozen=True)
class TokenFile:
    """A split's tokens, read from disk as they are touched: opening costs the same for any size. len() = its targets."""

    stream: NDArray[np.uint16]  # (len + 1,) memory map
    offsets: NDArray[np.int64]  # (stories + 1,) memory map

    @classmethod
    def open(cls, folder: Path, split: str) -> TokenFile:
        """Open the split that the stage tokenize wrote.

        Raises:
            UserError: a file is missing, damaged or cut short, or the files do not belong together.
        """
        meta = files.read_json(folder / "meta.json", "tokenize", "end_of_text")
        try:
            counts = meta["splits"][split]
            length, stories = int(counts["tokens"]) + 1, int(counts["stories"])
        except (KeyError, TypeError, ValueError) as error:
            raise _damaged(folder / "meta.json", error) from error
        stream = _map(_stream_path(folder, split), np.dtype("<u2"), length)
        offsets = _map(_offsets_path(folder, split), np.dtype("<i8"), stories + 1)
        if (ends := {int(stream[0]), int(stream[-1])}) != {meta["end_of_text"]}:  # as long, but in other ids
            raise _foreign(
                _stream_path(folder, split), f"it begins and ends with {ends}", f"with end-of-text, {meta['end_of_text']}"
            )
        if (bounds := (int(offsets[0]), int(offsets[-1]))) != (1, length):
            raise _foreign(_offsets_path(folder, split), f"it begins and ends with {bounds}", (1, length))
        return cls(stream, offsets)

    @property
    def stories(self) -> int:
        """How many stories there are."""
        return len(self.offsets) - 1

    def __len__(self) -> int:
        return len(self.stream) - 1


def _stream_path(folder: Path, split: str) -> Path:
    return folder / f"{split}.npy"


def _offsets_path(folder: Path, split: str) -> Path:
    return folder / f"{split}.offsets.npy"


def _write_header(file: IO[bytes], dtype: str, length: int) -> None:
    """numpy pads the header of an array so that its length can be set later without moving the data."""
    np.lib.format.write_array_header_1_0(file, {"descr": dtype, "fortran_order": False, "shape": (length,)})


def _map(path: Path, dtype: np.dtype[Any], length: int) -> NDArray[Any]:
    files.require(path, made_by="tokenize")
    try:
        array = np.load(path, mmap_mode="r")
    except (ValueError, EOFError) as error:
        raise _damaged(path, error) from error
    if array.dtype != dtype or array.shape != (length,):
        raise _foreign(path, f"it holds {array.shape} of {array.dtype}", f"{(length,)} of {dtype}")
    return np.asarray(array)


def _foreign(path: Path, found: str, expected: object) -> UserError:
    return UserError(
        f"{path} does not belong to meta.json beside it: {found}, not {expected}. Recreate both: dvc repro -f tokenize"
    )


def _damaged(path: Path, error: Exception) -> UserError:
    return files.damaged(path, repr(error), "tokenize")
