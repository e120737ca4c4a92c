"""Tokens are shown so that a reader sees them, and no character can change how the page reads."""

from __future__ import annotations

import unicodedata

from stages.corpus.tokenizer import Tokenizer
from stages.explanation.token_text import INVISIBLE, TokenText


def test_every_token_of_the_vocabulary_is_shown() -> None:
    """All 50,257 have a text of their own, none of it invisible; those of plain text, put together, are the text."""
    tokenizer = Tokenizer.gpt2()
    show = TokenText(tokenizer)
    texts = [show.text(token) for token in range(tokenizer.vocab_size)]
    assert len(set(texts)) == len(texts)
    assert not {unicodedata.category(char) for text in texts for char in text.replace("\n", "")} & INVISIBLE
    plain = "Once upon a time, <b> é"
    assert "".join(texts[token] for token in tokenizer.encode(plain)) == plain
