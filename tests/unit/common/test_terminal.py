"""The terminal: what is pluralize is named in the right number."""

from __future__ import annotations

import pytest

from stages.common.terminal import pluralize, printable


@pytest.mark.parametrize(
    ("number", "words", "text"),
    [
        (0, ("step",), "0 steps"),
        (1, ("thread",), "1 thread"),
        (2360, ("step",), "2,360 steps"),
        (1, ("blank story", "blank stories"), "1 blank story"),
        (20, ("process", "processes"), "20 processes"),
    ],
)
def test_pluralize(number: int, words: tuple[str, ...], text: str) -> None:
    """One is singular, all else is plural, an irregular one as given; thousands are separated."""
    assert pluralize(number, *words) == text


def test_printable_keeps_what_is_text() -> None:
    """Control characters become U+FFFD; line ends, tabs, and all that is text stay."""
    assert printable("a\x00\x1b[1m\x7f\u0085b") == "a\ufffd\ufffd[1m\ufffd\ufffdb"
    kept = "tab\t line\n é日🎈 👩‍👩‍👧 \u00a0"
    assert printable(kept) == kept
