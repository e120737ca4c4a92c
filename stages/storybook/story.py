"""The storybook: the built-in corpus, mini-stories from a grammar that knows the exact probability of each.

The stories are in the style of TinyStories (Eldan and Li 2023, arXiv:2305.07759): a named character, a wish or a problem,
help, an ending. What one sentence states (name, pronoun, color, toy, friend) stays the same in later sentences. No two
derivations give the same text (a test parses a thousand stories), so `Story.logprob` is the text's exact log-probability,
and its mean is the floor that no honest model can beat. Only `random.Random` and whole numbers are used, so the stories are
the same on every platform.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from stages.storybook.grammar import Grammar
from stages.storybook.rules import RULES
from stages.storybook.words import SLOTS

TRAIN_SEED = 1
VALIDATION_SEED = 2
_DECIMALS = 9  # of a log-probability: the last bits of math.log differ between platforms


@dataclass(frozen=True)
class Story:
    """A story, the natural logarithm of its probability, and its main character's name."""

    text: str
    logprob: float
    name: str


@cache
def grammar() -> Grammar:
    """The grammar, compiled at first use."""
    return Grammar(RULES, SLOTS, "story")


def story(seed: int, index: int) -> Story:
    """Story number `index` of a seed: a pure function of both, the same on every platform."""
    return _story(grammar(), random.Random(f"{seed}/{index}"))


def stories(count: int, seed: int) -> Iterator[Story]:
    """The first `count` stories of a seed, one at a time in constant memory."""
    book = grammar()
    generator = random.Random()
    for index in range(count):
        generator.seed(f"{seed}/{index}")
        yield _story(book, generator)


def _story(book: Grammar, generator: random.Random) -> Story:
    text, probability, bindings = book.sample(generator.random)
    return Story(text, round(math.log(probability), _DECIMALS), bindings["hero"]["name"])
