"""Token text: tokens as a reader can see them, whatever bytes they hold."""

from __future__ import annotations

import codecs
import json
import re
import unicodedata
from collections.abc import Sequence

from stages.corpus.tokenizer import Tokenizer

INVISIBLE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}  # Unicode categories that show nothing, or change how others are shown
RING = "◌"  # where a character is begun that the next token goes on with
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

    def parts(self, tokens: Sequence[int]) -> dict[int, str]:
        """What a text shows, by place, of tokens that hold a part of a character: the last one shows it, the others a ring."""
        found: dict[int, str] = {}
        decoder = codecs.getincrementaldecoder("utf-8")()
        for place, token in enumerate(tokens):
            begun = bool(decoder.getstate()[0])
            try:
                text = decoder.decode(b"" if token == self.end_of_text else self._raw(token), final=token == self.end_of_text)
            except UnicodeDecodeError:  # bytes that are no character: a network may write such
                decoder.reset()
                continue
            if open_ := bool(decoder.getstate()[0]):
                text += RING
            if (begun or open_) and token != self.end_of_text:
                found[place] = visible(text)
        return found

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
