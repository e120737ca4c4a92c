"""Terminal: output without control characters; a closed terminal ends no stage."""

from __future__ import annotations

import errno
import os
import sys
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


def printable(text: str) -> str:
    """The text without control characters, which a terminal would obey; line ends and tabs stay."""
    return "".join(
        "\N{REPLACEMENT CHARACTER}" if unicodedata.category(char) == "Cc" and char not in "\n\t" else char for char in text
    )


def pluralize(number: int, one: str, more: str = "") -> str:
    """A number with what it counts, such as "1 thread" and "2 threads"; `more` is the plural if an s does not make it."""
    return f"{number:,} {one if number == 1 else more or one + 's'}"


def one_line(text: str) -> str:
    """The text on one line, for a terminal."""
    return printable(" ".join(text.split()))


@contextmanager
def safe_streams() -> Iterator[None]:
    """Standard output and error that end no stage, until the block ends.

    Without Unicode they show question marks. A stream whose reader or terminal goes away takes what is written and drops it.
    """
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = ResilientStream(sys.stdout), ResilientStream(sys.stderr)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stdout, sys.stderr = before


class ResilientStream:
    """A text stream that keeps working when nobody reads it any more."""

    def __init__(self, stream: Any) -> None:
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
        self._stream = stream

    def write(self, text: str) -> int:
        self._try(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        self._try(self._stream.flush)

    def _try(self, action: Callable[[], object]) -> None:
        try:
            action()
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.EIO):
                raise  # a result that could not be written
            with open(os.devnull, "w") as null:
                os.dup2(null.fileno(), self._stream.fileno())  # what is still buffered, and all that follows, goes nowhere

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
