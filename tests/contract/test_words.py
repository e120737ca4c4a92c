"""CONTRIBUTING's section "Words": American spelling, and the field's term for each thing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from source_tree import ROOT

BRITISH = (
    r"colour|licen[c]e|neighbour|behaviour|favour|centre\b|(?:initial|normal|serial|recogn|memor|optim)is(?:e|ed|ing|ation)\b"
)
PRIVATE = (
    r"struck down|to go on\b|going on from|for ever\b|\bbut for (?:the|what)|see to it|nobody's business"
    r"|put right|(?:makes?|made) (?:it|them|both) again|a mend\b|the mend\b|leads nowhere|as it should"
    r"|spoilt|rotten|\bmends it|put back|(?:training|run) goes on\b|and go(?:es)? on,"
)
TEXTS = sorted(
    path
    for pattern in (
        "*.md",
        "*.yaml",
        "Makefile",
        "docs/*.md",
        "model/**/*.py",
        "stages/**/*.*",
        "docs/make/*.py",
        "tools/**/*.py",
        "benchmarks/*.py",
        "notebooks/*.ipynb",
        "tests/**/*.py",
    )
    for path in ROOT.glob(pattern)
    if path.name not in ("CHANGELOG.md", "lab-notes.md", "test_words.py", "test_bad_params.py")
    and path.suffix not in (".pyc", ".lock")
)


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_words_are_those_of_the_field(path: Path) -> None:
    """No British spelling, and none of the words that the glossary replaces: a list of those that were here."""
    text = path.read_text(encoding="utf-8")
    if path.name == "CONTRIBUTING.md":
        text = re.sub(r"^## Words\n.*?(?=^## )", "", text, flags=re.DOTALL | re.MULTILINE)
    found = [match[0] for match in re.finditer(f"{BRITISH}|{PRIVATE}", text, re.IGNORECASE)]
    assert not found, f"{path.name}: see CONTRIBUTING, Words"
