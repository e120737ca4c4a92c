"""The guard against the missing mask: exactly 0 with it, large without it."""

from __future__ import annotations

import pytest
from tiny import network, random_stories, token_file

from stages.evaluation.future_leak import future_leak


@pytest.mark.parametrize("block_size", [1, 2, 16, 100])
def test_only_a_network_without_a_mask_looks_ahead(block_size: int) -> None:
    """With the mask no earlier logit changes by a single bit when later tokens change, without it visibly; also where the split
    is shorter than the context."""
    assert future_leak(network(block_size=block_size), token_file(random_stories(4))) == 0.0
    if block_size > 1:
        assert future_leak(network(block_size=block_size, causal=False), token_file(random_stories(4))) > 0.01


def test_a_leak_is_seen_in_a_text_of_one_token() -> None:
    """A split that repeats one token still gives the network another future to look at."""
    assert future_leak(network(causal=False), token_file([[3] * 40])) > 0.01
