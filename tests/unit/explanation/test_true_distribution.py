"""The storybook's true probabilities are exact: they sum to 1, multiply to the story's, and equal brute force."""

from __future__ import annotations

import math
import random
import re
from itertools import chain

import pytest

from stages.corpus.tokenizer import Tokenizer
from stages.explanation.true_distribution import true_distribution
from stages.storybook import story as storybook
from stages.storybook.grammar import Grammar

SMALL = Grammar(
    {
        "start": ["<who> saw {a pet}[.| and|, and <who> fed the {pet}.]", "3*No {pet}.", "<who> saw {a pet}s."],
        "who": ["Ann|Anna|Bob"],  # "Ann" begins "Anna": the letters agree where the tokens may not
    },
    {"pet": [(2, {"pet": "cat", "a pet": "a cat"}), (1, {"pet": "owl", "a pet": "an owl"})]},
    "start",
)
END = 0


def in_pairs(word: str) -> list[int]:
    """Tokens of up to two characters: some words' tokens begin other words' tokens, some do not."""
    return [1 + sum(ord(char) << (8 * place) for place, char in enumerate(word[at : at + 2])) for at in range(0, len(word), 2)]


def test_a_small_grammar_by_brute_force() -> None:
    """At every place of every text the distribution is that of all texts that begin with the same tokens."""
    drawn = dict(SMALL.sample(random.Random(index).random) for index in range(5_000))
    texts = {(*chain(*map(in_pairs, re.findall("^[^ ]+| [^ ]+", text))), END): p for text, p in drawn.items()}
    assert math.fsum(texts.values()) == pytest.approx(1, abs=1e-12)
    for text in texts:
        for place, found in enumerate(true_distribution(SMALL, in_pairs, END, text)):
            same = {other: p for other, p in texts.items() if other[:place] == text[:place]}
            expected: dict[int, float] = {}
            for other, p in same.items():
                expected[other[place]] = expected.get(other[place], 0.0) + p / math.fsum(same.values())
            assert found == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("sample", list(storybook.stories(12, storybook.VALIDATION_SEED)))
def test_a_story_s_tokens_multiply_to_its_probability(sample: storybook.Story) -> None:
    """With GPT-2's tokens, over the whole storybook: the product with end-of-text is the story's own probability."""
    tokenizer = Tokenizer.gpt2()
    tokens = [*tokenizer.encode(sample.text), tokenizer.end_of_text]
    nats = []
    for token, found in zip(
        tokens, true_distribution(storybook.grammar(), tokenizer.encode, tokenizer.end_of_text, tokens), strict=True
    ):
        assert math.fsum(found.values()) == pytest.approx(1, abs=1e-9)
        nats.append(math.log(found[token]))
    assert math.fsum(nats) == pytest.approx(sample.logprob, abs=1e-8)


def test_a_text_that_the_storybook_never_tells() -> None:
    """It is refused, not scored."""
    tokenizer = Tokenizer.gpt2()
    tokens = tokenizer.encode("Once upon a time, war")
    with pytest.raises(ValueError, match="no story"):
        list(true_distribution(storybook.grammar(), tokenizer.encode, tokenizer.end_of_text, tokens))
