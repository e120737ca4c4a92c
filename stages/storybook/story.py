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
    """A story, and the natural logarithm of its probability."""

    text: str
    logprob: float


@cache
def grammar() -> Grammar:
    """The grammar, compiled at first use."""
    return Grammar(RULES, SLOTS, "story")


def stories(count: int, seed: int) -> Iterator[Story]:
    """The first `count` stories of a seed, one at a time in constant memory; each depends on the seed and its number alone."""
    book = grammar()
    generator = random.Random()
    for index in range(count):
        generator.seed(f"{seed}/{index}")
        text, probability = book.sample(generator.random)
        yield Story(text, round(math.log(probability), _DECIMALS))
