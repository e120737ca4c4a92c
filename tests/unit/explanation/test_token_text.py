"""Tokens are shown so that a reader sees them, and no character can change how the page reads."""

from __future__ import annotations

import unicodedata

import pytest

from stages.corpus.tokenizer import Tokenizer
from stages.explanation.token_text import INVISIBLE, TokenText, visible

TOKENIZER = Tokenizer.gpt2()
SHOW = TokenText(TOKENIZER)


def test_the_texts_of_the_tokens_are_the_text() -> None:
    """Of plain text the tokens' texts, put together, are the text."""
    text = 'Once upon a time, "Größe" <b>&amp;</b> 日本 said the owl.'
    assert "".join(SHOW.text(token) for token in TOKENIZER.encode("Once upon a time, <b>")) == "Once upon a time, <b>"
    shown = [SHOW.text(token) for token in TOKENIZER.encode(text)]
    assert all(shown)


def test_every_token_of_the_vocabulary_is_shown() -> None:
    """All 50,257 have a text, none of it invisible; parts of a character are shown as bytes."""
    for token in range(TOKENIZER.vocab_size):
        text = SHOW.text(token)
        assert text
        assert not {unicodedata.category(char) for char in text.replace("\n", "")} & INVISIBLE, (token, text)
    first, second = TOKENIZER.encode("é")[0], TOKENIZER.encode("🦉")[0]
    assert SHOW.text(first) == "é"
    assert SHOW.text(second).startswith("⟨F0")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\nb", "a↵\nb"),
        ("\t", "⇥"),
        ("\x00\x1b", "⟨U+0000⟩⟨U+001B⟩"),
        ("\u202eabc", "⟨U+202E⟩abc"),
        ("\u2028", "⟨U+2028⟩"),
        ("\ufeff\u200f", "⟨U+FEFF⟩⟨U+200F⟩"),
        ("שלום", "שלום"),
        ("</script>", "</script>"),
    ],
)
def test_invisible_characters_get_a_sign(text: str, shown: str) -> None:
    """Control characters and marks that turn the writing round get a sign; letters of any script stay."""
    assert visible(text) == shown
