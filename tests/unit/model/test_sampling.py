"""Drawing a token: draws follow the weights, top-k and top-p keep exactly what they say, and rows do not meet."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from model.sampling import SamplingParams, exponential_noise, exponential_race, token_weights


def truncate(weights: Tensor, top_k: int | None, top_p: float | None) -> Tensor:
    """`token_weights` of these weights, which top-k and top-p are defined by; the largest becomes 1."""
    return token_weights(weights.log(), SamplingParams(1.0, top_k, top_p))


@pytest.mark.parametrize("vocab_size", [1, 2, 5, 9, 10, 101])
def test_draws_follow_the_weights(vocab_size: int) -> None:
    """100,000 draws: each index as often as its weight says (chi-squared, p > 1e-4), those of weight 0 never."""
    from scipy.stats import chi2  # comes with mlflow

    generator = torch.Generator().manual_seed(vocab_size)
    weights = torch.rand(1, vocab_size, generator=generator) ** 3
    weights[0, 1::4] = 0.0
    count = 100_000
    noise = exponential_noise(count, vocab_size, generator)
    drawn = exponential_race(weights.expand(count, -1), noise).bincount(minlength=vocab_size).double()
    expected = (weights[0] / weights.sum()).double() * count
    assert (drawn[expected == 0] == 0).all()
    used = expected > 0
    statistic = float(((drawn - expected)[used] ** 2 / expected[used]).sum())
    assert statistic <= chi2.ppf(1 - 1e-4, max(1, int(used.sum()) - 1))


def test_a_random_number_of_zero_chooses_nothing_odd(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.rand may return exactly 0; a token of weight 0 is not drawn even then."""
    rand = torch.rand

    def with_zeros(*size: Any, **options: Any) -> Tensor:
        values = rand(*size, **options)
        values[:, 0] = 0.0
        return values

    monkeypatch.setattr(torch, "rand", with_zeros)
    weights = torch.tensor([[0.0, 0.0, 0.0, 0.3, 0.7, 0.0, 0.0, 0.0, 0.0]]).expand(50, -1)
    assert set(exponential_race(weights, exponential_noise(50, 9, None)).tolist()) <= {3, 4}


# -- top-k and top-p ------------------------------------------------------------------------------------

ROUGH = st.lists(st.integers(0, 3), min_size=1, max_size=12).filter(any)  # many equal weights


def by_hand(values: list[int], k: int) -> list[int]:
    """Places of the k largest values, of equals the first."""
    return sorted(range(len(values)), key=lambda place: (-values[place], place))[:k]


@settings(deadline=None)
@given(ROUGH, st.integers(1, 14))
def test_top_k_keeps_exactly_k(values: list[int], k: int) -> None:
    """Exactly the k largest, of equals at the edge the first, at their own weights."""
    weights = torch.tensor([values, values], dtype=torch.float32)
    kept = truncate(weights, k, None)
    expected = [value if place in by_hand(values, k) else 0 for place, value in enumerate(values)]
    for row in range(2):
        torch.testing.assert_close(kept[row] * max(values), torch.tensor(expected, dtype=torch.float32))


@settings(deadline=None)
@given(ROUGH, st.integers(1, 99), st.none() | st.integers(1, 14))
def test_top_p_keeps_the_smallest_set(values: list[int], percent: int, top_k: int | None) -> None:
    """The fewest likeliest tokens with the share `top_p` of what top_k left."""
    kept = truncate(torch.tensor([values], dtype=torch.float32) / 7, top_k, percent / 100)[0]
    order = by_hand(values, top_k or len(values))
    goal = percent * sum(values[place] for place in order)
    sums = [100 * sum(values[place] for place in order[: count + 1]) for count in range(len(order))]
    fewest = next(count + 1 for count, reached in enumerate(sums) if reached >= goal)
    near = {fewest, fewest + 1, fewest - 1}  # where a sum meets the share exactly, rounding decides
    exact = {fewest} if goal not in sums else near
    stayed = set(kept.nonzero()[:, 0].tolist())
    assert stayed in [{place for place in order[:count] if values[place]} for count in exact]


@pytest.mark.parametrize("spread", [0.1, 8.0])
def test_a_wide_nucleus_is_not_cut_short(spread: float) -> None:
    """top_p of a flat distribution over many tokens, and of a steep one, keeps what the definition in float64 keeps."""
    torch.manual_seed(0)
    weights = (torch.randn(3, 5000) * spread).exp()
    for share in (0.01, 0.5, 0.999):
        kept = truncate(weights, None, share) > 0
        ordered, places = weights.double().sort(dim=-1, descending=True)
        p = ordered / ordered.sum(-1, keepdim=True)
        sizes = (p.cumsum(-1) - p < share).sum(-1)
        for row in range(3):
            assert abs(int(kept[row].sum()) - int(sizes[row])) <= (1 if spread < 1 else 0)
            assert bool(kept[row, places[row, : sizes[row] - 1]].all())
