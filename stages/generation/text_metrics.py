"""Text metrics: what can be counted in samples, so that settings are compared by more than taste."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

from stages.common.files import Metric
from stages.generation.sampler import Sample
from stages.storybook.words import HER_NAMES, HIS_NAMES

NAME = re.compile(rf"\b(?:{'|'.join(HIS_NAMES + HER_NAMES)})\b")

METRICS = {  # of data/generate/metrics.json; a continuation is a sample without its prompt
    "distinct_2": Metric(
        "Different pairs of neighboring words / all such pairs, over all continuations (Li et al. 2016).",
        "share",
        "high; low means that the samples repeat themselves or each other",
    ),
    "mean_tokens": Metric(
        "Tokens of the continuations / samples, end-of-text not counted.", "tokens per sample", "as in the training text"
    ),
    "eos_fraction": Metric(
        "Samples that ended with end-of-text, before `max_new_tokens` / samples.", "share", "near 1 where stories are short"
    ),
    "name_consistency": Metric(
        "Samples that name one character of the storybook and no other / samples; only for the storybook.",
        "share",
        "1, as in the storybook's own stories",
    ),
    "longest_copy": Metric(
        "The longest run of tokens of any continuation that is in the training text too.",
        "tokens",
        "low; as long as a story, the network recites",
    ),
}


def measure(samples: Sequence[Sample], dataset: str) -> dict[str, float]:
    """What can be said about the samples alone: all of METRICS but `longest_copy`, which needs the training text."""
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
