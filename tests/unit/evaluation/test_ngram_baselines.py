"""Baselines: a proper distribution, equal to Kneser-Ney written out, and in the right order."""

from __future__ import annotations

import math
from collections import Counter, defaultdict

import numpy as np
import pytest
from tiny import random_stories, token_file

from stages.evaluation import ngram_baselines
from stages.evaluation.ngram_baselines import KneserNey, perplexities

VOCABULARY = 12


def markov_stories(count: int, seed: int) -> list[list[int]]:
    """Stories in which a token mostly follows from the two before it."""
    generator = np.random.default_rng(seed)
    stories = []
    for _ in range(count):
        story = [1, 2]
        for _ in range(generator.integers(5, 20)):
            noise = generator.random() < 0.2
            story.append(int(generator.integers(1, VOCABULARY)) if noise else 1 + story[-1] * story[-2] % (VOCABULARY - 2))
        stories.append(story)
    return stories


def written_out(train: list[int], order: int) -> dict[tuple[int, ...], float]:
    """P(last | others) of every n-gram of the vocabulary, from dictionaries (Chen and Goodman 1999, equations 24 to 26)."""
    padded = [train[0]] * max(0, order - 2) + train
    counts = [Counter(tuple(padded[i - order + 1 : i + 1]) for i in range(order - 1 if order > 1 else 1, len(padded)))]
    while len(next(iter(counts[0]))) > 1:
        counts.insert(0, Counter(gram[1:] for gram in counts[0]))
    probability: dict[tuple[int, ...], float] = {(): 1 / VOCABULARY}
    for level in counts:
        sizes = Counter(level.values())
        if sizes[1] and sizes[2] and sizes[3]:
            y = sizes[1] / (sizes[1] + 2 * sizes[2])
            discount = {n: min(max(n - (n + 1) * y * sizes[n + 1] / sizes[n], 0.0), n) for n in (1, 2, 3)}
        else:
            discount = dict.fromkeys((1, 2, 3), 0.5)
        following = defaultdict(dict)  # type: ignore[var-annotated]
        for gram, count in level.items():
            following[gram[:-1]][gram[-1]] = count
        length = len(next(iter(level)))
        new = {}
        for context in np.ndindex(*[VOCABULARY] * (length - 1)):
            known = following.get(context, {})
            total = sum(known.values())
            freed = sum(discount[min(c, 3)] for c in known.values()) / total if total else 1.0
            for token in range(VOCABULARY):
                count = known.get(token, 0)
                below = probability[(*context[1:], token)] if length > 1 else probability[()]
                new[(*context, token)] = ((count - discount[min(count, 3)]) / total if count else 0.0) + freed * below
        probability = new
    return probability


@pytest.mark.parametrize("order", [1, 2, 3])
def test_probabilities_are_kneser_ney_s_as_written_out(order: int) -> None:
    """Every n-gram's probability equals the textbook's, and those of a context sum to one."""
    train = token_file(markov_stories(60, 0)).stream
    wanted = written_out(train.tolist(), order)
    model = KneserNey(train, VOCABULARY, order)
    keys = np.arange(VOCABULARY**order, dtype=np.uint64)
    ours = model._probabilities(keys)
    assert ours == pytest.approx([wanted[gram] for gram in np.ndindex(*[VOCABULARY] * order)], rel=1e-12)
    assert ours.reshape(-1, VOCABULARY).sum(axis=1) == pytest.approx(1.0)


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("chunk", [1, 7, 1 << 20])
def test_scores_each_token_in_its_context(order: int, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mean nats are those of the definition, however the stream is cut into chunks."""
    train, validation = (token_file(markov_stories(count, seed)).stream.tolist() for count, seed in ((60, 0), (5, 1)))
    wanted = written_out(train, order)
    padded = [validation[0]] * order + validation
    nats = [-math.log(wanted[tuple(padded[i - order + 1 : i + 1])]) for i in range(order + 1, len(padded))]
    monkeypatch.setattr(ngram_baselines, "CHUNK", chunk)
    model = KneserNey(np.array(train, np.uint16), VOCABULARY, order)
    assert model.nats(np.array(validation, np.uint16)) == pytest.approx(np.mean(nats), rel=1e-12)


def test_trigrams_know_more_than_unigrams() -> None:
    """On text where a token follows from two others: trigram perplexity < unigram perplexity < vocabulary."""
    unigram, trigram = perplexities(token_file(markov_stories(300, 0)), token_file(markov_stories(50, 1)), VOCABULARY)
    assert trigram < 0.7 * unigram < unigram < VOCABULARY


def test_any_text_has_a_probability() -> None:
    """Tokens and vocabularies that training never showed give a finite number, up to the full vocabulary."""
    train = token_file([[1, 1, 1]])
    unigram, trigram = perplexities(train, token_file([[50_000, 40_000, 50_256]]), 50_257)
    assert 4 < unigram < 1e6
    assert 4 < trigram < 1e6


def test_counts_no_more_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond MAX_TOKENS the first training tokens stand for all."""
    stories = random_stories(50)
    validation = token_file(random_stories(5, seed=1))
    monkeypatch.setattr(ngram_baselines, "MAX_TOKENS", len(token_file(stories[:20])))
    assert perplexities(token_file(stories), validation, 20) == perplexities(token_file(stories[:20]), validation, 20)
