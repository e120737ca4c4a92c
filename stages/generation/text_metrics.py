"""Text metrics: what can be counted in samples, so that settings are compared by more than taste."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

from stages.generation.sampler import Sample
from stages.storybook.words import HER_NAMES, HIS_NAMES

NAME = re.compile(rf"\b(?:{'|'.join(HIS_NAMES + HER_NAMES)})\b")


def measure(samples: Sequence[Sample], dataset: str) -> dict[str, float]:
    """What can be said about the samples alone (of the continuations, unless said otherwise):

    distinct_2: different pairs of neighboring words, of all pairs (Li et al. 2016); low = the samples repeat each other.
    mean_tokens: tokens per sample, end-of-text not counted.
    eos_fraction: share that ended by itself, with end-of-text.
    name_consistency: share of texts that name one character and never another, as each story of the storybook does.
    """
    count = len(samples)
    found = {
        "distinct_2": distinct_2([sample.continuation for sample in samples]),
        "mean_tokens": sum(len(sample.tokens) for sample in samples) / count,
        "eos_fraction": sum(sample.finished for sample in samples) / count,
    }
    if dataset == "storybook":
        found["name_consistency"] = sum(keeps_name(sample.text) for sample in samples) / count
    return found


def distinct_2(texts: Sequence[str]) -> float:
    """Different pairs of neighboring words within a text, of all such pairs; 0 if there are none."""
    words = [text.split() for text in texts]
    pairs = [pair for text in words for pair in pairwise(text)]
    return len(set(pairs)) / len(pairs) if pairs else 0.0


def keeps_name(text: str) -> bool:
    """Whether the text names a character of the storybook, and no second one."""
    name = name_of(text)
    return name is not None and name_of(text.replace(name, "")) is None


def name_of(text: str) -> str | None:
    """The main character's name in any text: the first of the storybook's names that it mentions."""
    found = NAME.search(text)
    return found[0] if found else None
