"""GPT2Config: any shape that makes sense, every mistake named, and an honest count of parameters."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model import GPT2, GPT2Config
from model.config import Position


def test_gpt2_small_has_openai_s_number_of_parameters() -> None:
    """GPT-2 small: learned positions, 1,024 context, 50,257 tokens, tied: exactly 124,439,808, by formula and by count."""
    config = GPT2Config(vocab_size=50_257, block_size=1024, n_layer=12, n_head=12, n_embd=768, position="learned")
    with torch.device("meta"):
        net = GPT2(config)
    assert config.parameters == sum(parameter.numel() for parameter in net.parameters()) == 124_439_808


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 40),
    st.integers(1, 20),
    st.integers(1, 3),
    st.integers(1, 4),
    st.integers(1, 5),
    st.booleans(),
    st.booleans(),
)
def test_parameters_are_what_is_trained(
    vocab_size: int, block_size: int, n_layer: int, n_head: int, head_size: int, learned: bool, tied: bool
) -> None:
    """At any depth, heads and width `parameters` is the number of trained values; sinusoidal positions have none."""
    position: Position = "learned" if learned else "sinusoidal"
    config = GPT2Config(vocab_size, block_size, n_layer, n_head, n_head * head_size, position=position, tie_embeddings=tied)
    net = GPT2(config)
    assert config.parameters == sum(parameter.numel() for parameter in net.parameters() if parameter.requires_grad)
    assert net(torch.zeros(1, block_size, dtype=torch.int64)).shape == (1, block_size, vocab_size)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"n_head": 5}, "n_head (5) must divide n_embd (12)"),
        ({"n_layer": 0}, "n_layer must be 1 or more"),
        ({"vocab_size": -1}, "vocab_size must be 1 or more"),
        ({"dropout": 1.0}, "dropout must be from 0 to below 1"),
        ({"position": "relative"}, "position must be sinusoidal"),
        ({"n_layer": 0, "dropout": -0.5}, "n_layer must be 1 or more, it is 0; dropout must be from 0 to below 1"),
    ],
)
def test_mistakes_are_named(change: dict[str, object], words: str) -> None:
    """A shape that cannot be is refused in words."""
    good = {"vocab_size": 10, "block_size": 8, "n_layer": 1, "n_head": 3, "n_embd": 12}
    GPT2Config(**good)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="must") as error:
        GPT2Config(**(good | change))  # type: ignore[arg-type]
    assert words in str(error.value)
