"""Heads get the names of what they do: hand-made ones score near 1, and no head does two things at once."""

from __future__ import annotations

import pytest
import torch

from model import GPT2, GPT2Config
from stages.explanation.attention_weights import attention_weights
from stages.explanation.head_roles import head_roles, looked_for

V, P = 12, 24  # tokens, positions
SHARP = 60.0  # of a score, so that the softmax is all but one-hot


@torch.no_grad()
def induction_network() -> GPT2:
    """Two layers of one head: the first copies the token before, the second looks for a copy of its own token.

    The residual stream has three parts: the token (V), its position (P), the token before (V), each one-hot. LayerNorm gets the
    weights that make it the identity on such vectors.
    """
    C = V + P + V
    net = GPT2(GPT2Config(V, block_size=P, n_layer=2, n_head=1, n_embd=C, position="learned", tie_embeddings=False)).eval()
    for parameter in net.parameters():
        parameter.zero_()
    token, position, before = torch.eye(C).split([V, P, V])
    net.wte.weight.copy_(token)
    net.wpe.weight.copy_(position)
    for block, ones in zip(net.h, (2, 3), strict=True):
        vector = torch.cat([torch.ones(ones), torch.zeros(C - ones)])
        block.ln_1.weight.fill_((vector.var(unbiased=False) + 1e-5).sqrt())
        block.ln_1.bias.fill_(vector.mean())
    size = SHARP * C**0.5
    first, second = (block.attn for block in net.h)
    q, k, v = first.c_attn.weight.split(C)
    q.copy_(size * position.T @ position)  # asks for its own position
    k.copy_(position.roll(-1, 0).T @ position)  # offers the position behind its own
    v.copy_(torch.eye(C))
    first.c_proj.weight.copy_(before.T @ token)  # writes the token that it saw into the third part
    q, k, v = second.c_attn.weight.split(C)
    q.copy_(size * token.T @ token)  # asks for its own token
    k.copy_(token.T @ before)  # offers the token before it
    return net


def texts(count: int = 8) -> list[torch.Tensor]:
    """Random texts, after a token that is only at the start, in which no token follows itself."""
    generator = torch.Generator().manual_seed(0)
    start = torch.zeros(1, dtype=torch.int64)
    steps = (torch.randint(1, V - 1, (P - 1,), generator=generator) for _ in range(count))
    return [torch.cat([start, 1 + step.cumsum(0) % (V - 1)]) for step in steps]


def test_a_hand_made_induction_network_gets_its_roles() -> None:
    """The first head's previous-token score and the second's induction score are near 1, and all other scores are low."""
    net = induction_network()
    found = head_roles(((tokens, attention_weights(net, tokens[None])) for tokens in texts()), causal=True)
    assert set(found.scores) == {"previous", "same", "induction", "first"}
    first, second = (
        {role: float(scores[layer, 0]) for role, scores in found.scores.items()} for layer in range(net.config.n_layer)
    )
    assert first["previous"] > 0.99
    assert second["induction"] > 0.99
    assert max(share for role, share in first.items() if role != "previous") < 0.3
    assert max(share for role, share in second.items() if role != "induction") < 0.3


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
