"""Samples page: the samples as Markdown to read, whatever characters they hold."""

from __future__ import annotations

import re
from collections.abc import Sequence

from stages.common.terminal import printable
from stages.generation.sampler import Sample

MARKS = re.compile(r"[\\`*_\[\]<>|~&$#]")  # what means something to Markdown anywhere in a line
LINE_START = re.compile(r"^(\d*)([+\-=.)])")  # and at its start: lists, rules, underlined headings


def text(samples: Sequence[Sample], settings: str, before: Sequence[Sample] = ()) -> str:
    """One quotation for each sample, its prompt in bold, and whether it ended by itself; first those from before training."""
    parts = ["# Samples", f"{_inline(settings)}. The prompt is in bold."]
    titles = [*("Before training" for _ in before), *(str(place) for place in range(1, len(samples) + 1))]
    for title, sample in zip(titles, [*before, *samples], strict=True):
        parts += [
            f"## {title}",
            _quotation(sample),
            f"({len(sample.tokens):,} tokens, {'finished' if sample.finished else 'cut'})",
        ]
    return "\n\n".join(parts) + "\n"


def _quotation(sample: Sample) -> str:
    """Line by line behind `>`; what belongs to the prompt is bold."""
    lines, left = [], len(sample.prompt)  # characters of the prompt still to come
    for line in sample.text.splitlines(keepends=True) or [""]:
        shown = f"{_bold(line[:left])}{_inline(line[left:])}".strip()
        lines.append(LINE_START.sub(r"\1\\\2", shown))
        left = max(0, left - len(line))
    return "\n".join(f"> {line}".rstrip() for line in lines)


def _bold(part: str) -> str:
    inner = _inline(part).strip()
    if not inner:
        return ""
    space = " " if part[-1].isspace() else ""
    return (f"**{inner}**" if inner[0].isalnum() and inner[-1].isalnum() else f"<b>{inner}</b>") + space


def _inline(part: str) -> str:
    """Part of a line that Markdown shows as it is, white space apart."""
    return MARKS.sub(r"\\\g<0>", printable(re.sub(r"\s+", " ", part)))
