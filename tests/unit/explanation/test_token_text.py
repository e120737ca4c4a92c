"""Tokens are shown so that a reader sees them, and no character can change how the page reads."""

from __future__ import annotations

import unicodedata

import pytest

from stages.corpus.tokenizer import Tokenizer
from stages.explanation.token_text import INVISIBLE, TokenText, visible


def test_every_token_of_the_vocabulary_is_shown() -> None:
    """All 50,257 have a text of their own, none of it invisible; those of plain text, put together, are the text."""
    tokenizer = Tokenizer.gpt2()
    show = TokenText(tokenizer)
    texts = [show.text(token) for token in range(tokenizer.vocab_size)]
    assert len(set(texts)) == len(texts)
    assert not {unicodedata.category(char) for text in texts for char in text.replace("\n", "")} & INVISIBLE
    plain = "Once upon a time, <b> é"
    assert "".join(texts[token] for token in tokenizer.encode(plain)) == plain


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\nb\t", "a↵\nb⇥"),
        ("\x00\x1b", "⟨U+0000⟩⟨U+001B⟩"),
        ("\u202eabc\u2028", "⟨U+202E⟩abc⟨U+2028⟩"),
        ("\ufeff\u200f", "⟨U+FEFF⟩⟨U+200F⟩"),
        ("שלום</script>", "שלום</script>"),
    ],
)
def test_invisible_characters_get_a_sign(text: str, shown: str) -> None:
    """Control characters and marks that turn the writing round get a sign; letters of any script stay."""
    assert visible(text) == shown
