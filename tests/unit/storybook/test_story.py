"""The storybook keeps its promises: reproducible stories whose exact log-probability is known."""

import hashlib
import math
import random
import re
from collections import Counter
from itertools import islice

import pytest

from stages.corpus.tokenizer import Tokenizer
from stages.generation import text_metrics
from stages.storybook import story as storybook
from stages.storybook.grammar import Grammar
from stages.storybook.words import HER_NAMES, HIS_NAMES

MANY = 10_000
SMALL = Grammar(
    {"start": ["<who> saw {a pet}[.| and|, and <who> fed the {pet}.]", "3*No {pet}."], "who": ["Ann|Bob"]},
    {"pet": [(2, {"pet": "cat", "a pet": "a cat"}), (1, {"pet": "owl", "a pet": "an owl"})]},
    "start",
)


def derivations(grammar, text):
    """The probability of every derivation that gives exactly this text: they are read word by word, and share no code with
    `Grammar.sample`, so that each checks the other."""
    found, agenda = [], [(0, grammar.begin())]
    while agenda:
        at, state = agenda.pop()
        for word, ends, after in grammar.next_words(state):
            if ends and word == text[at:]:
                found.append(after[2])
            elif not ends and text.startswith(word, at):
                agenda.append((at + len(word), after))
    return found


@pytest.fixture(scope="module")
def book():
    return list(storybook.stories(MANY, storybook.TRAIN_SEED))


def test_the_same_seed_gives_the_same_stories_on_every_platform():
    written = "\n".join(f"{story.text}\t{story.logprob:.9f}" for story in storybook.stories(100, 1))
    digest = hashlib.sha256(written.encode("ascii")).hexdigest()
    assert digest == "72438bd7fa678060a6efec9a829e19313ba9e26022986d319125d4bec6ffd6c4"


def test_stories_are_made_one_at_a_time_and_do_not_depend_on_their_number():
    endless = storybook.stories(10**18, 5)
    assert list(islice(endless, 3)) == list(storybook.stories(3, 5))


def test_train_and_validation_share_no_story(book):
    validation = {story.text for story in storybook.stories(1000, storybook.VALIDATION_SEED)}
    assert len(validation) == 1000
    assert not validation & {story.text for story in book}


def test_sampled_frequencies_match_the_probabilities_and_the_scorer():
    draws = [SMALL.sample(random.Random(f"chi/{index}").random) for index in range(20_000)]
    counts, expected = Counter(text for text, _ in draws), dict(draws)
    assert len(expected) == 18
    assert math.fsum(expected.values()) == pytest.approx(1, abs=1e-12)
    for text, probability in expected.items():
        assert derivations(SMALL, text) == [pytest.approx(probability)]
    chi_square = sum((counts[text] - len(draws) * p) ** 2 / (len(draws) * p) for text, p in expected.items())
    assert chi_square < 33.4  # 17 degrees of freedom, 99 %


def test_each_story_has_one_derivation_and_its_probability_is_the_storys(book):
    grammar = storybook.grammar()
    for story in book[:300]:
        found = derivations(grammar, story.text)
        assert len(found) == 1, story.text
        assert math.log(found[0]) == pytest.approx(story.logprob, abs=2e-9)
    assert not derivations(grammar, book[0].text + " The end.")


def test_more_than_a_thousand_words_are_used(book):
    assert len({word.lower() for story in book for word in re.findall(r"[A-Za-z]+", story.text)}) >= 1150


def test_the_floor_and_the_length_are_as_documented(book):
    _, token_counts = Tokenizer.gpt2().encode_batch([story.text for story in book])
    assert 47 <= sum(token_counts) / MANY <= 48
    assert max(token_counts) < 80
    floor = math.exp(-sum(story.logprob for story in book) / (sum(token_counts) + MANY))  # one end-of-text a story
    assert 2.6 < floor < 2.7


def test_name_and_pronoun_agree_through_the_story(book):
    names = set(HIS_NAMES + HER_NAMES)
    for story in book:
        words = re.findall(r"[A-Za-z]+", story.text)
        name = text_metrics.name_of(story.text)
        assert {word for word in words if word in names} == {name}, story.text
        pronouns = {word.lower() for word in words} & {"he", "his", "him", "she", "her"}
        assert pronouns <= ({"he", "his", "him"} if name in HIS_NAMES else {"she", "her"}), story.text


def test_english_is_clean(book):
    for story in book:
        assert story.text.isascii()
        assert not re.search(r"\b[Aa] [aeiouAEIOU]|\b[Aa]n [^aeiou]|  | [.,!?]|[{}\[\]<>|*]", story.text), story.text
        assert not re.search(r"\b(\w+) \1\b", story.text), story.text
        assert re.search(r"[.!]\"?$", story.text), story.text
        assert story.text.count('"') % 2 == 0
