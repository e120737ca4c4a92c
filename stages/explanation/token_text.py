"""Token text: tokens as a reader can see them, whatever bytes they hold."""

from __future__ import annotations

import json
import re
import unicodedata

from stages.corpus.tokenizer import Tokenizer

INVISIBLE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}  # Unicode categories that show nothing, or change how others are shown
LETTER = re.compile(r"[!-~¡-¬®-ÿ]")  # bytes that stand for themselves in GPT-2's vocabulary; the others begin at U+0100


class TokenText:
    """`text(token)` is what is shown of a token: never a control character, never a mark that turns the writing round."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.end_of_text = tokenizer.end_of_text
        model = json.loads(tokenizer.to_json())["model"]
        self._names = {token: name for name, token in model["vocab"].items()}
        moved = (byte for byte in range(256) if not LETTER.fullmatch(chr(byte)))
        self._bytes = {char: ord(char) for char in map(chr, range(256)) if LETTER.fullmatch(char)}
        self._bytes |= {chr(256 + place): byte for place, byte in enumerate(moved)}

    def text(self, token: int) -> str:
        """The token alone: its characters, or its bytes in hexadecimal where they are part of a character."""
        if token == self.end_of_text:
            return "⟨end⟩"
        raw = self._raw(token)
        try:
            return visible(raw.decode("utf-8"))
        except UnicodeDecodeError:
            return f"⟨{raw.hex(' ').upper()}⟩"

    def _raw(self, token: int) -> bytes:
        return bytes(self._bytes[char] for char in self._names[token])


def visible(text: str) -> str:
    """The text with a sign for each character that cannot be seen; a line end keeps its effect, after its sign."""
    return "".join(_sign(char) for char in text)


def _sign(char: str) -> str:
    if char == "\n":
        return "↵\n"
    if char == "\t":
        return "⇥"
    return f"⟨U+{ord(char):04X}⟩" if unicodedata.category(char) in INVISIBLE else char
