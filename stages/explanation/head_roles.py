"""Head roles: what each attention head measurably does, as the share of its attention that a simple rule explains.

The rules are those of Elhage et al. 2021 ("A Mathematical Framework for Transformer Circuits") and Olsson et al. 2022
("In-context Learning and Induction Heads"). A score near 1 means that the head does this and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

ROLES = ("previous", "same", "induction", "first", "next")


@dataclass(frozen=True)
class HeadRoles:
    """What each role explains of every head's attention, as shares from 0 to 1."""

    scores: Mapping[str, Tensor]  # role -> (L, H)
    chance: Mapping[str, float]  # role -> the score of uniform attention


def looked_for(tokens: Tensor) -> dict[str, Tensor]:
    """Where each role looks: role -> (T, T) bool, queries in rows; a row without True has nothing to look for.

    previous: the token before. same: earlier places of the same token. induction: what followed the same token before (in
    "A B ... A" the last A looks at B). first: the first token, from all others. next: the token after, which is the one to be
    predicted; a causal mask hides it.
    """
    T = len(tokens)
    earlier = torch.ones(T, T, dtype=torch.bool).tril(-1)
    same = (tokens[:, None] == tokens[None, :]) & earlier
    followed = torch.zeros(T, T, dtype=torch.bool)
    followed[:, 1:] = same[:, :-1]  # key j is what followed token j - 1
    first = torch.zeros(T, T, dtype=torch.bool)
    first[1:, 0] = True
    before = torch.eye(T, dtype=torch.bool).roll(1, 0)
    before[0] = False
    return {"previous": before, "same": same, "induction": followed & earlier, "first": first, "next": before.T}


def head_roles(texts: Iterable[tuple[Tensor, Tensor]], causal: bool) -> HeadRoles:
    """Measure all heads over texts, of each its tokens (T,) and its attention weights (L, H, T, T).

    Where attention is causal no head can have the role "next", and it is left out.
    """
    roles = ROLES[:-1] if causal else ROLES
    sums: dict[str, Tensor | float] = dict.fromkeys(roles, 0.0)
    alike, rows = dict.fromkeys(roles, 0.0), dict.fromkeys(roles, 0)
    for tokens, weights in texts:
        T = len(tokens)
        visible = torch.arange(1, T + 1) if causal else torch.full((T,), T)
        for role, where in looked_for(tokens).items():
            if role in roles:
                sums[role] = sums[role] + (weights * where).sum((2, 3), dtype=torch.float64)
                alike[role] += float((where.sum(1) / visible).sum())
                rows[role] += int(where.any(1).sum())
    scores = {role: torch.as_tensor(sums[role]) / max(1, rows[role]) for role in roles}
    return HeadRoles(scores, {role: alike[role] / max(1, rows[role]) for role in roles})
