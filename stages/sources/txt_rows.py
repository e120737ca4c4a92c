"""Text rows: stories from a plain text file: a line each, or what stands between two `<|endoftext|>`."""

from __future__ import annotations

from collections.abc import Iterator

from stages.sources.data_file import DataFile
from stages.sources.source import SEPARATOR


def lines(file: DataFile) -> Iterator[str]:
    """A story a line.

    Raises:
        UserError: a line holds the separator, so that lines are not stories. (Of files here that is known before.)
    """
    for number, line in enumerate(_lines(file), start=1):
        if SEPARATOR in line:
            raise file.refusal(
                f"line {number:,} holds {SEPARATOR}, so its stories are not its lines",
                "Fetch the file and give it as dataset: local files are read twice, and split there",
            )
        yield line


def _lines(file: DataFile) -> Iterator[str]:
    parts: list[str] = []
    for piece in file.text(newlines=True):
        first, *more = piece.split("\n")
        parts.append(first)
        if more:
            yield "".join(parts)
            yield from more[:-1]
            parts = more[-1:]
    if last := "".join(parts):
        yield last


def separated(file: DataFile) -> Iterator[str]:
    """A story up to the next separator, wherever in a line that stands, and up to the file's end."""
    parts, edge = [""], ""  # of the story so far; its last characters, which may begin a separator
    for piece in file.text(newlines=True):
        *whole, rest = (edge + piece).split(SEPARATOR)
        for story in whole:
            yield "".join([*parts, story]).strip()
            parts = []
        cut = max(0, len(rest) + 1 - len(SEPARATOR))
        parts.append(rest[:cut])
        edge = rest[cut:]
    if last := "".join([*parts, edge]).strip():
        yield last
