"""Prompt notes: a prompt that cannot be continued well gets a sentence that says why; any other gets none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stages.corpus.tokenizer import Tokenizer
from stages.corpus.tokens import TokenFile
from stages.generation import prompt_notes

pytestmark = pytest.mark.kind("odd prompts")

Known = tuple[Tokenizer, TokenFile]


@pytest.fixture(scope="module")
def known(tokenized: Path) -> Known:
    """A pruned vocabulary and the training tokens that it comes from."""
    folder = tokenized / "data/tokenize"
    return Tokenizer.load(folder / "tokenizer.json"), TokenFile.open(folder, "train")


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The training tokens are searched in many pieces."""
    monkeypatch.setattr(prompt_notes, "CHUNK", 7)


def notes(known: Known, *prompts: str) -> list[str]:
    return list(prompt_notes.notes(known[0], prompts, known[1].stream))


@pytest.mark.parametrize("prompt", ["Once upon a time", "", "Once upon a time, there was a"])
def test_an_ordinary_prompt_gets_no_note(prompt: str, known: Known) -> None:
    """Nor does an empty one, which begins as every story did."""
    assert notes(known, prompt) == []


@pytest.mark.parametrize(
    ("prompt", "listed"),
    [("Once upon 日", ["'日'"]), ("Once 🎈🎈", ["'🎈'"]), ("é Once\x07", ["'\\x07'"]), ("Once upon a Q@", ["'@'"])],
)
def test_tokens_that_training_never_saw_are_listed(prompt: str, listed: list[str], known: Known) -> None:
    """By their text, each once; those that make a character together as that character."""
    (note,) = notes(known, prompt)
    assert repr(prompt) in note and "training never saw its tokens" in note
    assert [text for text in listed if text in note.partition("tokens")[2]] == listed


def test_long_prompts_have_short_notes(known: Known) -> None:
    """Of a long prompt the beginning, of many tokens the first ten."""
    (note,) = notes(known, "".join(map(chr, range(0x4E00, 0x4E00 + 500))))
    assert len(note) < 250 and "490 more" in note


def test_a_separator_in_a_prompt_is_plain_text(known: Known) -> None:
    """As `download` says of one in a story."""
    assert "<|endoftext|> in it is taken for plain text" in notes(known, "The end.<|endoftext|>Once")[0]


def test_a_space_at_the_end_gets_a_note(known: Known) -> None:
    """It is kept, and hinders the next word; one before a line end does not stand at the end."""
    (note,) = notes(known, "Once upon a ")
    assert "the space at its end is kept" in note and "leave it out" in note
    assert notes(known, "Once upon a") == []


def test_no_note_where_the_training_tokens_are_missing(known: Known) -> None:
    """A model alone does not tell what it was trained on."""
    assert list(prompt_notes.notes(known[0], ["Once 日"], None)) == []


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=30).map(str.rstrip))  # a space at the end has a note of its own
def test_any_prompt_can_be_looked_at(known: Known, prompt: str) -> None:
    """Whatever Unicode it has; what training saw is what is in the tokens, found in chunks of any size."""
    ids = set(known[0].encode(prompt))
    unseen = ids - set(np.unique(known[1].stream).tolist())
    said = [note for note in notes(known, prompt) if "training never saw" in note]
    assert bool(said) == bool(unseen)
