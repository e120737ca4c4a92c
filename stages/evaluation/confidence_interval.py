"""A mean with its 95 % confidence interval, by resampling whole stories.

Tokens of one story depend on each other, stories do not: so stories are drawn, with replacement. The interval is BCa (bias-
corrected and accelerated; Efron 1987, Efron and Tibshirani 1993, chapter 14): the plain percentile interval is too short and
off-center for a few dozen stories of skewed length, and for many the two agree. BCa follows monotone maps, so the
interval of a perplexity is exp of the interval of its loss.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import DegenerateDataWarning, bootstrap

RESAMPLES = 2_000
GROUPS = 4_000  # more stories than that are drawn in groups of neighbors: the cost stops growing, the interval stays
DRAWS = 1 << 20  # story numbers drawn at a time (8 MB)

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A value and its 95 % interval."""

    value: float
    low: float
    high: float

    def named(self, key: str) -> dict[str, float]:
        """As three metrics."""
        return {key: self.value, f"{key}_low": self.low, f"{key}_high": self.high}


def ratio(amounts: ArrayLike, counts: ArrayLike) -> Estimate:
    """sum(amounts) / sum(counts) over stories, (S,) each, such as nats per token; the interval of one story is its value alone.

    The same stories are drawn each time, so that quantities of one split are compared draw by draw.
    """
    pairs = _grouped(amounts, counts)
    return _bca(_whole(pairs), [pairs], lambda stories, axis=-1: _ratio(pairs, stories, axis))


def difference(first: tuple[ArrayLike, ArrayLike], second: tuple[ArrayLike, ArrayLike]) -> Estimate:
    """`ratio(*first) - ratio(*second)` for two independent sets of stories."""
    one, two = _grouped(*first), _grouped(*second)
    value = _whole(one) - _whole(two)
    return _bca(value, [one, two], lambda a, b, axis=-1: _ratio(one, a, axis) - _ratio(two, b, axis))


def exp(estimate: Estimate) -> Estimate:
    """A loss in nats as a perplexity."""
    return Estimate(math.exp(estimate.value), math.exp(estimate.low), math.exp(estimate.high))


def _grouped(amounts: ArrayLike, counts: ArrayLike) -> Array:
    """(S, 2), or (GROUPS, 2) sums of neighbors."""
    pairs = np.stack([np.asarray(amounts, np.float64), np.asarray(counts, np.float64)], axis=1)
    if len(pairs) <= GROUPS:
        return pairs
    return np.add.reduceat(pairs, np.arange(GROUPS) * len(pairs) // GROUPS, axis=0)


def _whole(pairs: Array) -> float:
    """The ratio over all stories."""
    amounts, counts = pairs.sum(axis=0)
    return float(amounts / counts)


def _ratio(pairs: Array, stories: NDArray[np.int64], axis: int) -> Any:
    """The ratio over the stories with these numbers."""
    return pairs[stories, 0].sum(axis=axis) / pairs[stories, 1].sum(axis=axis)


def _bca(value: float, sets: list[Array], statistic: Callable[..., Any]) -> Estimate:
    """The interval of `value`, the statistic of all stories; it is given story numbers, so each amount keeps its count."""
    numbers = [np.arange(len(pairs)) for pairs in sets]
    if min(map(len, numbers)) < 2:
        return Estimate(value, value, value)
    with warnings.catch_warnings(), np.errstate(invalid="ignore"):
        warnings.simplefilter("ignore", DegenerateDataWarning)  # stories that are all alike
        found = bootstrap(
            numbers,
            statistic,
            n_resamples=RESAMPLES,
            batch=max(1, DRAWS // max(map(len, numbers))),
            vectorized=True,
            method="BCa",
            rng=np.random.default_rng(0),
        ).confidence_interval
    low, high = (float(limit) if math.isfinite(limit) else value for limit in found)
    return Estimate(value, min(low, value), max(high, value))
