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
from tiny import network

from stages.corpus.tokenizer import Tokenizer
from stages.corpus.tokens import TokenFile
from stages.explanation.attention_weights import attention_weights
from stages.explanation.explorer import STORIES, Explorer
from stages.explanation.packed import NEVER, PER_NAT
from stages.explanation.page import page
from stages.explanation.true_distribution import true_distribution
from stages.storybook import story as storybook


def unpacked(packed: dict[str, Any]) -> Any:
    raw = zlib.decompress(base64.b64decode(packed["data"]))
    return np.frombuffer(raw, {"u8": "<u1", "u16": "<u2"}[packed["kind"]]).reshape(packed["shape"]).astype(np.int64)


@pytest.fixture(scope="module")
def tokenizer(tokenized: Path) -> Tokenizer:
    return Tokenizer.load(tokenized / "data/tokenize/tokenizer.json")


@pytest.fixture(scope="module")
def validation(tokenized: Path) -> TokenFile:
    return TokenFile.open(tokenized / "data/tokenize", "validation")


@pytest.mark.parametrize("causal", [True, False])
def test_a_story_s_numbers_are_the_network_s_and_the_storybook_s(
    causal: bool, tokenizer: Tokenizer, validation: TokenFile
) -> None:
    """Probability, rank, alternatives, layers, attention and truth of a whole story equal the network's and the storybook's.

    Of a network without a mask they are those of one pass over the whole story, in which it sees what comes next.
    """
    net = network(vocab_size=tokenizer.vocab_size, block_size=96, causal=causal)
    data = Explorer(net, tokenizer, validation, True).data("storybook")
    assert len(data["stories"]) == min(STORIES, validation.stories)
    story = next(story for story in data["stories"] if story["whole"])
    tokens = torch.from_numpy(unpacked(story["tokens"]))
    with torch.no_grad():
        log_p = net(tokens[None, :-1])[0].log_softmax(-1)
    own = -log_p.gather(1, tokens[1:, None])[:, 0]
    np.testing.assert_allclose(unpacked(story["nats"]) / PER_NAT, own, atol=1e-3)
    np.testing.assert_array_equal(unpacked(story["rank"]), 1 + (log_p > -own[:, None]).sum(1))
    named = unpacked(story["likeliest"])
    np.testing.assert_array_equal(named, log_p.topk(5).indices)
    np.testing.assert_allclose(unpacked(story["lens"]["nats"])[:, -1] / PER_NAT, own, atol=1e-3)
    np.testing.assert_allclose(unpacked(story["attention"]) / 255, attention_weights(net, tokens[None, :-1]), atol=0.003)
    places = list(true_distribution(storybook.grammar(), tokenizer.encode, tokenizer.end_of_text, tokens[1:].tolist()))
    true = [-math.log(place[int(token)]) for place, token in zip(places, tokens[1:], strict=True)]
    never = [[token not in place for token in row] for place, row in zip(places, named.tolist(), strict=True)]
    np.testing.assert_array_equal(unpacked(story["truth"]["likeliest"]) == NEVER, never)
    truth = {name: unpacked(packed) / PER_NAT for name, packed in story["truth"].items()}
    np.testing.assert_allclose(truth["nats"], true, atol=1e-3)
    # entropy + divergence = the surprise to expect of this network, under the true distribution
    expected = [-sum(q * float(row[token]) for token, q in place.items()) for place, row in zip(places, log_p, strict=True)]
    np.testing.assert_allclose(truth["free"] + truth["wrong"], expected, atol=2e-3)
    texts = dict(zip(unpacked(data["ids"]).tolist(), data["texts"], strict=True))
    assert "".join(texts[token] for token in tokens[1:-1].tolist()) == tokenizer.decode(tokens[1:-1].tolist())


@pytest.mark.parametrize(
    "shape",
    [
        {"causal": False},
        {"position": "learned", "tie_embeddings": False},
        {"dropout": 0.5},
        {"n_layer": 1, "n_head": 1, "n_embd": 1, "block_size": 1},
        {"block_size": 300},
    ],
    ids=str,
)
def test_every_kind_of_network_gets_the_same_page_twice(
    shape: dict[str, Any], tokenizer: Tokenizer, validation: TokenFile
) -> None:
    """Without a mask, with learned positions, of one token of context, long: all give a page, the same twice."""
    net = network(vocab_size=tokenizer.vocab_size, **shape)
    one, two = (Explorer(net, tokenizer, validation, True).data("storybook") for _ in range(2))
    assert page(one) == page(two)
    assert ("next" in one["heads"]["roles"]) is not net.config.causal
    assert all(story["nats"]["shape"][0] <= min(128, net.config.block_size) for story in one["stories"])


@pytest.mark.slow
def test_the_default_size_stays_below_2_mb(tokenizer: Tokenizer, validation: TokenFile) -> None:
    """12 layers of 12 heads and a context of 128 give a page of at most 2 MB, with weights that hardly compress."""
    net = network(vocab_size=tokenizer.vocab_size, n_layer=12, n_head=12, n_embd=96, block_size=128)
    text = page(Explorer(net, tokenizer, validation, True).data("storybook"))
    assert len(text.encode()) < 2_000_000
    assert json.loads(text.split('id="data">')[1].split("</script>")[0])["model"]["layers"] == 12
