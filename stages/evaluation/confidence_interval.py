"""Interval: a mean with its 95 % confidence interval, by resampling whole stories.

Tokens of one story depend on each other, stories do not: so stories are drawn, with replacement. The interval is BCa (bias-
corrected and accelerated; Efron 1987, Efron and Tibshirani 1993, chapter 14): the plain percentile interval is too short and
off-centre for a few dozen stories of skewed length, and for many the two agree. BCa follows monotone maps, so the
interval of a perplexity is exp of the interval of its loss.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

RESAMPLES = 2_000
GROUPS = 4_000  # more stories than that are drawn in groups of neighbours: the cost stops growing, the interval stays
DRAWS = 1 << 20  # story numbers drawn at a time (8 MB)

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A value and its 95 % interval."""

    value: float
    low: float
    high: float

    def map(self, monotone: Callable[[float], float]) -> Estimate:
        """The estimate of an increasing function of the quantity."""
        return Estimate(monotone(self.value), monotone(self.low), monotone(self.high))

    def named(self, key: str) -> dict[str, float]:
        """As three metrics."""
        return {key: self.value, f"{key}_low": self.low, f"{key}_high": self.high}


def ratio(amounts: ArrayLike, counts: ArrayLike, seed: int = 0) -> Estimate:
    """sum(amounts) / sum(counts) over stories, as nats over tokens.

    Args:
        amounts: (S,), one a story.
        counts: (S,), above 0.
        seed: the same seed draws the same stories, so that quantities of one split are compared draw by draw.

    Returns:
        the estimate; with fewer than two stories its interval is the value alone.
    """
    pairs = _grouped(amounts, counts)
    value = float(_divide(pairs.sum(axis=0)))
    return _bca(value, _divide(_resample(pairs, seed)), _left_out(pairs) - value)


def difference(first: tuple[ArrayLike, ArrayLike], second: tuple[ArrayLike, ArrayLike], seed: int = 0) -> Estimate:
    """`ratio(*first) - ratio(*second)` for two independent sets of stories."""
    one, two = _grouped(*first), _grouped(*second)
    value_one, value_two = float(_divide(one.sum(axis=0))), float(_divide(two.sum(axis=0)))
    draws = _divide(_resample(one, seed)) - _divide(_resample(two, seed + 1))
    influence = np.concatenate([_left_out(one) - value_one, value_two - _left_out(two)])
    return _bca(value_one - value_two, draws, influence)


def _grouped(amounts: ArrayLike, counts: ArrayLike) -> Array:
    """(S, 2), or (GROUPS, 2) sums of neighbours."""
    pairs = np.stack([np.asarray(amounts, np.float64), np.asarray(counts, np.float64)], axis=1)
    if len(pairs) <= GROUPS:
        return pairs
    return np.add.reduceat(pairs, np.arange(GROUPS) * len(pairs) // GROUPS, axis=0)


def _divide(pairs: Array) -> Array:
    return pairs[..., 0] / pairs[..., 1]


def _resample(pairs: Array, seed: int) -> Array:
    """Sums over as many stories as there are, drawn with replacement, (RESAMPLES, 2)."""
    generator = np.random.default_rng(seed)
    size = max(1, DRAWS // len(pairs))
    parts = [min(size, RESAMPLES - done) for done in range(0, RESAMPLES, size)]
    return np.concatenate([pairs[generator.integers(len(pairs), size=(part, len(pairs)))].sum(axis=1) for part in parts])


def _left_out(pairs: Array) -> Array:
    """The ratio without each story in turn (the jackknife), (S,)."""
    return _divide(pairs.sum(axis=0) - pairs) if len(pairs) > 1 else _divide(pairs)


def _bca(value: float, draws: Array, influence: Array) -> Estimate:
    """The BCa interval of `value` from its resampled values and what leaving a story out adds to it."""
    normal = NormalDist()
    below = float((draws < value).mean() + (draws == value).mean() / 2)
    bias = normal.inv_cdf(min(max(below, 1 / len(draws)), 1 - 1 / len(draws)))
    spread = float((influence**2).sum())
    acceleration = -float((influence**3).sum()) / (6 * spread**1.5) if spread > 0 else 0.0

    def level(probability: float) -> float:
        z = bias + normal.inv_cdf(probability)
        return normal.cdf(bias + z / (1 - acceleration * z))

    low, high = np.quantile(draws, [level(0.025), level(0.975)])
    return Estimate(value, float(min(low, value)), float(max(high, value)))


def exp(estimate: Estimate) -> Estimate:
    """A loss in nats as a perplexity."""
    return estimate.map(math.exp)
