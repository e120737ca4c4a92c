"""What the page is given is what the network does, for every kind of network, and it stays small."""

from __future__ import annotations

import base64
import json
import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from model import GPT2, GPT2Config
from stages.corpus.tokenizer import Tokenizer
from stages.corpus.tokens import TokenFile
from stages.explanation.attention_weights import attention_weights
from stages.explanation.explorer import MOMENTS, SAMPLES, STORIES, Explorer
from stages.explanation.packed import NEVER, PER_NAT
from stages.explanation.page import page
from stages.explanation.true_distribution import true_distribution
from stages.storybook import story as storybook

TRAINING = [{"step": step, "texts": [f"text {step}", "\x00"], "val_loss": 1.0 if step else None} for step in range(0, 120, 10)]


def network(tokenizer: Tokenizer, block_size: int = 64, **changes: Any) -> GPT2:
    """A small network with large random weights."""
    torch.manual_seed(0)
    shape = {"n_layer": 2, "n_head": 2, "n_embd": 16} | changes
    net = GPT2(GPT2Config(tokenizer.vocab_size, block_size=block_size, **shape))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    return net.eval()


def a_sample(tokenizer: Tokenizer, finished: bool = True) -> dict[str, Any]:
    return {"prompt": "Once upon a time", "ids": tokenizer.encode(", there was a cat."), "finished": finished}


def grid(packed: dict[str, Any]) -> Any:
    raw = zlib.decompress(base64.b64decode(packed["data"]))
    return np.frombuffer(raw, {"u8": "<u1", "u16": "<u2"}[packed["kind"]]).reshape(packed["shape"]).astype(np.int64)


def nats(packed: dict[str, Any]) -> Any:
    steps = grid(packed)
    return np.where(steps == NEVER, np.inf, steps / PER_NAT)


@pytest.fixture(scope="module")
def tokenizer(tokenized: Path) -> Tokenizer:
    return Tokenizer.load(tokenized / "data/tokenize/tokenizer.json")


@pytest.fixture(scope="module")
def validation(tokenized: Path) -> TokenFile:
    return TokenFile.open(tokenized / "data/tokenize", "validation")


def test_a_story_s_numbers_are_the_network_s_and_the_storybook_s(tokenizer: Tokenizer, validation: TokenFile) -> None:
    """Probability, rank, alternatives, layers, attention and truth of a whole story equal the network's and the storybook's."""
    net = network(tokenizer, block_size=96)
    data = Explorer(net, tokenizer, validation, True).data("storybook", [a_sample(tokenizer)], TRAINING)
    assert len(data["stories"]) == min(STORIES, validation.stories)
    story = next(story for story in data["stories"] if story["whole"])
    tokens = torch.from_numpy(grid(story["tokens"]))
    with torch.no_grad():
        log_p = net(tokens[None, :-1])[0].log_softmax(-1)
    own = -log_p.gather(1, tokens[1:, None])[:, 0]
    np.testing.assert_allclose(nats(story["nats"]), own, atol=1e-3)
    np.testing.assert_array_equal(grid(story["rank"]), 1 + (log_p > -own[:, None]).sum(1))
    np.testing.assert_array_equal(grid(story["likeliest"]), log_p.topk(5).indices)
    np.testing.assert_allclose(nats(story["lens"]["nats"])[:, -1], own, atol=1e-3)
    weights = attention_weights(net, tokens[None, :-1])
    np.testing.assert_allclose(grid(story["attention"]) / 255, weights, atol=0.003)
    places = list(true_distribution(storybook.grammar(), tokenizer.encode, tokenizer.end_of_text, tokens[1:].tolist()))
    true = [-math.log(place[int(token)]) for place, token in zip(places, tokens[1:], strict=True)]
    np.testing.assert_allclose(nats(story["truth"]["nats"]), true, atol=1e-3)
    # entropy + divergence = the surprise to expect of this network, under the true distribution
    expected = [-sum(q * float(row[token]) for token, q in place.items()) for place, row in zip(places, log_p, strict=True)]
    np.testing.assert_allclose(nats(story["truth"]["free"]) + nats(story["truth"]["wrong"]), expected, atol=2e-3)
    texts = dict(zip(grid(data["ids"]).tolist(), data["texts"], strict=True))
    text = tokenizer.decode(tokens[1:-1].tolist())
    assert "".join(texts[token] for token in tokens[1:-1].tolist()) == text
    assert storybook.logprob(text) == pytest.approx(-sum(true), abs=1e-6)


def test_moments_are_spread_over_the_training(tokenizer: Tokenizer, validation: TokenFile) -> None:
    """The first, the last and some between; control characters get a sign. None is shown where none was kept."""
    explorer = Explorer(network(tokenizer), tokenizer, validation, False)
    shown = explorer.data("mine", [], TRAINING)["training"]
    assert len(shown) == MOMENTS
    assert (shown[0]["step"], shown[-1]["step"]) == (0, 110)
    assert shown[0]["texts"] == ["text 0", "⟨U+0000⟩"]
    assert explorer.data("mine", [], [])["training"] == []


@pytest.mark.parametrize(
    "changes",
    [
        {"causal": False},
        {"position": "learned", "tie_embeddings": False},
        {"position": "sinusoidal", "dropout": 0.5},
        {"n_layer": 1, "n_head": 1, "n_embd": 1, "block_size": 1},
        {"n_layer": 1, "n_head": 1, "n_embd": 2, "block_size": 2},
        {"block_size": 300},
        {"n_layer": 6, "n_head": 16},
    ],
    ids=str,
)
def test_every_kind_of_network_gets_the_same_page_twice(
    changes: dict[str, Any], tokenizer: Tokenizer, validation: TokenFile
) -> None:
    """Without a mask, with learned positions, of one head, of one token of context, long: all give a page, the same twice."""
    net = network(tokenizer, **changes)
    samples = [a_sample(tokenizer), a_sample(tokenizer, finished=False)]
    one, two = (Explorer(net, tokenizer, validation, True).data("storybook", samples, TRAINING) for _ in range(2))
    assert page(one) == page(two)
    assert one["model"]["causal"] is net.config.causal
    assert ("next" in one["heads"]["roles"]) is not net.config.causal
    assert all(story["nats"]["shape"][0] <= min(128, net.config.block_size) for story in one["stories"])


def test_a_network_without_mask_shows_what_it_copies(tokenizer: Tokenizer, validation: TokenFile) -> None:
    """A network that copies the answer shows attention to the next token; its samples' numbers are of what it saw then."""
    net = network(tokenizer, causal=False)
    data = Explorer(net, tokenizer, validation, True).data("storybook", [a_sample(tokenizer)], TRAINING)
    weights = grid(data["stories"][0]["attention"])
    assert np.triu(weights, 1).any()
    sample = data["samples"][0]
    tokens = torch.from_numpy(grid(sample["tokens"]))
    with torch.no_grad():
        log_p = net(tokens[None, :6])[0, -1].log_softmax(-1)
    assert nats(sample["nats"])[5] == pytest.approx(-float(log_p[tokens[6]]), abs=1e-3)


def test_a_prompt_that_fills_the_context_is_left_out(tokenizer: Tokenizer, validation: TokenFile) -> None:
    """Behind it nothing can be shown as it was drawn: the sample is left out."""
    data = Explorer(network(tokenizer, block_size=4), tokenizer, validation, False).data("mine", [a_sample(tokenizer)], [])
    assert data["samples"] == []
    many = Explorer(network(tokenizer), tokenizer, validation, False).data("mine", [a_sample(tokenizer)] * 9, [])
    assert len(many["samples"]) == SAMPLES


@pytest.mark.slow
def test_the_default_size_stays_below_2_mb(tokenizer: Tokenizer, validation: TokenFile) -> None:
    """12 layers of 12 heads and a context of 128 give a page of at most 2 MB, with weights that hardly compress."""
    net = network(tokenizer, n_layer=12, n_head=12, n_embd=96, block_size=128)
    samples = [{"prompt": "Once", "ids": list(range(5, 205)), "finished": False}] * 5
    long = [{"step": step, "texts": ["word " * 80] * 2, "val_loss": 1.0} for step in range(50)]
    text = page(Explorer(net, tokenizer, validation, True).data("storybook", samples, long))
    assert len(text.encode()) < 2_000_000
    assert json.loads(text.split('id="data">')[1].split("</script>")[0])["model"]["layers"] == 12
