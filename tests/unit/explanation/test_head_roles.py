"""Heads get the names of what they do: hand-made ones score 1, and no head does two things at once."""

from __future__ import annotations

import pytest
import torch

from stages.explanation.head_roles import head_roles, looked_for


@pytest.mark.parametrize("role", ["previous", "same", "induction", "first", "next"])
def test_a_hand_made_head_gets_its_role(role: str) -> None:
    """A head that looks where its role says, wherever there is something to look at, scores 1 in it and low in all others."""
    generator = torch.Generator().manual_seed(0)
    texts = [torch.randint(1, 12, (24,), generator=generator) for _ in range(8)]
    places = [looked_for(tokens)[role].float() for tokens in texts]
    weights = [(where / where.sum(1, keepdim=True).clamp(min=1))[None, None] for where in places]
    found = head_roles(zip(texts, weights, strict=True), causal=False).scores
    assert float(found[role]) == pytest.approx(1)
    assert max(float(score) for other, score in found.items() if other != role) < 0.3


def test_each_role_looks_where_it_says() -> None:
    """On a text that can be worked out by hand: 7 3 5 3 5."""
    found = looked_for(torch.tensor([7, 3, 5, 3, 5]))
    places = {role: {tuple(place) for place in where.nonzero().tolist()} for role, where in found.items()}
    assert places["previous"] == {(1, 0), (2, 1), (3, 2), (4, 3)}
    assert places["same"] == {(3, 1), (4, 2)}
    assert places["induction"] == {(3, 2), (4, 3)}
    assert places["first"] == {(1, 0), (2, 0), (3, 0), (4, 0)}
    assert places["next"] == {(0, 1), (1, 2), (2, 3), (3, 4)}


@pytest.mark.parametrize("causal", [True, False])
def test_looking_at_all_alike_is_chance(causal: bool) -> None:
    """A head that looks at all that it may see alike scores what is reported as chance, in each role."""
    T = 10
    alike = torch.ones(T, T).tril() if causal else torch.ones(T, T)
    weights = (alike / alike.sum(1, keepdim=True)).expand(1, 1, T, T)
    tokens = torch.tensor([0, 1, 2, 1, 2, 3, 1, 3, 2, 1])
    found = head_roles([(tokens, weights)], causal)
    assert ("next" in found.scores) is not causal
    for role, scores in found.scores.items():
        assert float(scores) == pytest.approx(found.chance[role])
