"""JSON rows: stories from JSON Lines, or from one array of objects or of texts, a value at a time."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from stages.common.errors import UserError
from stages.sources.data_file import DataFile

FIRST = 2048  # rows in which a key `text` must have come
SPACE = re.compile(r"[ \t\n\r]*")
UNFINISHED = 16  # an error this near to the end of what was read may go away with the next piece
KEY = '"text"'
TWICE = object()  # in place of the value of a key `text` that is given twice
NAMES = {float: "a number", list: "a list", dict: "an object", str: "a text", type(None): "null"}


def rows(file: DataFile) -> Iterator[str | None]:
    """Each row's value of `text`; None for null, and where a row lacks the key as other rows' writers omit null.

    Raises:
        UserError: a row is broken, or its `text` is not a text: the message names row, line and what it holds.
    """
    values = _Values(file)
    array = values.peek() == "["
    if array:
        values.skip()
    number, kind, known = 0, None, False
    while (sign := values.peek()) and not (array and sign == "]"):
        number += 1
        row = values.next()
        kind = kind or type(row)
        if not isinstance(row, (dict, str) if array else dict):
            raise file.refusal(f"{values.row(number)} is {_name(row)}, not an object with a key `text`", "Correct or remove it")
        if type(row) is not kind:
            raise file.refusal(
                f"{values.row(number)} is {_name(row)}, the first row is {NAMES[kind]}", "Write all rows in one way"
            )
        text = row.get("text") if isinstance(row, dict) else row
        if text is TWICE:
            raise file.refusal(f"{values.row(number)} gives `text` twice", "Keep one")
        if not isinstance(text, str | None):
            raise file.refusal(f"{values.row(number)} holds {_name(text)} in `text`, not a text", "Correct or remove it")
        known = known or text is not None or "text" in row
        if not known and number == FIRST:
            raise file.no_text(row)
        yield text
        values.separate(array)
    if number and not known:
        raise file.no_text(row)
    if array:
        values.end()


class _Values:
    """The JSON values of a file, one after another; only the piece of the file around the next one is in memory."""

    def __init__(self, file: DataFile) -> None:
        self._file, self._pieces = file, file.text()
        self._text, self._at, self._begin, self._lines = "", 0, 0, 1
        self._decode = json.JSONDecoder(parse_int=float).raw_decode  # a number of any length
        self._decode_strictly = json.JSONDecoder(object_pairs_hook=_object, parse_int=float).raw_decode

    def row(self, number: int) -> str:
        """What messages call the last value: its number and the line that it begins in."""
        return f"row {number:,} (line {self._line(self._begin):,})"

    def peek(self) -> str:
        """The next character that is not white space; empty at the file's end."""
        while True:
            self._at = SPACE.match(self._text, self._at).end()  # type: ignore[union-attr]
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def skip(self) -> None:
        """Pass the character that `peek` showed."""
        self._at += 1

    def next(self) -> Any:
        """The value that begins at the character that `peek` showed."""
        while True:
            try:
                value, end = self._decode(self._text, self._at)
            except RecursionError:
                raise self._broken("brackets are nested too deeply") from None
            except json.JSONDecodeError as error:
                cut = error.msg.startswith("Unterminated string") or error.pos >= len(self._text) - UNFINISHED
                if cut and self._more():
                    continue
                self._at = error.pos
                raise self._broken(error.msg) from None
            if end == len(self._text) and self._more():  # a number may go on
                continue
            if self._text.count(KEY, self._at, end) > 1:  # seldom, and three times as slow
                value, end = self._decode_strictly(self._text, self._at)
            self._begin, self._at = self._at, end
            return value

    def separate(self, array: bool) -> None:
        """Pass what is between two values."""
        sign = self.peek()
        if array and sign == ",":
            self.skip()
            if self.peek() == "]":
                raise self._broken("a comma before the array's end")
        elif array and sign != "]":
            raise self._broken("a comma or the array's end is missing")
        elif sign == ",":
            raise self._file.refusal(
                f"there is a comma after the object in line {self._line(self._at):,}; in JSON Lines a line is an object",
                "Remove the commas, or put all in brackets: [ ... ]",
            )

    def end(self) -> None:
        """Pass the end of the array, behind which there must be nothing."""
        if self.peek() != "]":
            raise self._broken("the array has no end")
        self.skip()
        if self.peek():
            raise self._broken("there is more text after the array's end")

    def _more(self) -> bool:
        """Read on, so far that a value that is longer than a piece is not begun again and again; False at the file's end."""
        pieces, left = [self._text[self._at :]], max(1, len(self._text) - self._at)
        for piece in self._pieces:
            pieces.append(piece)
            left -= len(piece)
            if left <= 0:
                break
        if not any(pieces[1:]):
            return False
        self._lines = self._line(self._at)
        self._text, self._at = "".join(pieces), 0
        return True

    def _line(self, at: int) -> int:
        return self._lines + self._text.count("\n", 0, at)

    def _broken(self, why: str) -> UserError:
        return self._file.refusal(
            f"line {self._line(self._at):,} is not JSON ({why[0].lower()}{why[1:]})", "Is it whole, and what its ending says?"
        )


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, in which a key `text` that is given twice has the value TWICE."""
    made = dict(pairs)
    if len(made) < len(pairs) and [key for key, _ in pairs].count("text") > 1:
        made["text"] = TWICE
    return made


def _name(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else NAMES[type(value)]
