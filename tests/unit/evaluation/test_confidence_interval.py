"""Intervals: they hold what they promise, on the storybook and where theory gives the width."""

from __future__ import annotations

import math

import numpy as np
import pytest

from stages.evaluation import confidence_interval
from stages.evaluation.confidence_interval import GROUPS
from stages.storybook import story as storybook


def floor_data(count: int, seed: int) -> tuple[list[float], list[int]]:
    """Nats and words (for tokens: a count that goes with the length) of storybook stories."""
    sample = list(storybook.stories(count, seed))
    return [-story.logprob for story in sample], [len(story.text.split()) + 1 for story in sample]


@pytest.mark.slow
def test_the_interval_holds_the_long_run_value_of_the_storybook() -> None:
    """Over 20 seeds of a validation set of 1,000 stories the 95 % interval contains the long-run value in 17 or more."""
    nats, tokens = floor_data(40_000, seed=10_000)
    truth = sum(nats) / sum(tokens)
    estimates = [confidence_interval.ratio(*floor_data(1_000, seed)) for seed in range(100, 120)]
    inside = [estimate.low <= truth <= estimate.high for estimate in estimates]
    assert sum(inside) >= 17
    assert all(estimate.high - estimate.low < 0.03 * truth for estimate in estimates)  # and it says something


def test_the_interval_of_a_gap_is_as_wide_as_both_sets_say() -> None:
    """The interval of a gap is as wide as the two sets' spread says, and turns around with them."""
    generator = np.random.default_rng(3)
    one = generator.normal(2.0, 1.0, 2_000), np.ones(2_000)
    two = generator.normal(1.5, 1.0, 2_000), np.ones(2_000)
    gap, back = confidence_interval.difference(one, two), confidence_interval.difference(two, one)
    assert gap.low < 0.5 < gap.high
    assert gap.high - gap.low == pytest.approx(2 * 1.96 * math.sqrt(2 / 2_000), rel=0.1)
    assert back.value == -gap.value
    assert (back.low, back.high) == pytest.approx((-gap.high, -gap.low), abs=0.02)


def test_many_stories_in_groups_give_the_same_interval() -> None:
    """Beyond GROUPS stories the interval is still the one that theory gives."""
    stories = 5 * GROUPS + 3
    nats = np.random.default_rng(4).normal(2.0, 1.0, stories)
    estimate = confidence_interval.ratio(nats, np.ones(stories))
    assert estimate.value == pytest.approx(nats.mean(), rel=1e-12)
    assert estimate.high - estimate.low == pytest.approx(2 * 1.96 / math.sqrt(stories), rel=0.1)


def test_a_perplexity_s_interval_is_exp_of_its_loss_s() -> None:
    """The same stories give the same interval; a perplexity's interval is exp of its loss's."""
    nats, tokens = np.random.default_rng(5).gamma(4.0, 10.0, 50), np.full(50, 20)
    loss = confidence_interval.ratio(nats, tokens)
    assert loss == confidence_interval.ratio(nats, tokens)
    perplexity = confidence_interval.exp(loss)
    assert (perplexity.low, perplexity.value, perplexity.high) == tuple(map(math.exp, (loss.low, loss.value, loss.high)))
    assert perplexity.named("p") == {"p": perplexity.value, "p_low": perplexity.low, "p_high": perplexity.high}


@pytest.mark.parametrize("stories", [1, 5])
def test_equal_stories_give_an_interval_without_width(stories: int) -> None:
    """One story, or stories that are all alike, give an interval without width, not an error."""
    estimate = confidence_interval.ratio(np.full(stories, 30.0), np.full(stories, 10))
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx((3.0, 3.0, 3.0))
