"""Token text: tokens as a reader can see them, whatever bytes they hold."""

from __future__ import annotations

import json
import unicodedata

from stages.corpus.tokenizer import Tokenizer

INVISIBLE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}  # Unicode categories that show nothing, or change how others are shown


class TokenText:
    """`text(token)` is what is shown of a token: never a control character, never a mark that turns the writing round."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._names = {token: name for name, token in json.loads(tokenizer.to_json())["model"]["vocab"].items()}

    def text(self, token: int) -> str:
        """The token alone: its characters, or GPT-2's own letters for its bytes where they are part of a character."""
        if token == self._tokenizer.end_of_text:
            return "⟨end⟩"
        text = self._tokenizer.decode([token])
        return f"⟨{self._names[token]}⟩" if "\ufffd" in text else visible(text)


def visible(text: str) -> str:
    """The text with a sign for each character that cannot be seen; a line end keeps its effect, after its sign."""
    return "".join(_sign(char) for char in text)


def _sign(char: str) -> str:
    if char == "\n":
        return "↵\n"
    if char == "\t":
        return "⇥"
    return f"⟨U+{ord(char):04X}⟩" if unicodedata.category(char) in INVISIBLE else char
