"""Perplexity: every token once, with the context that the stride promises, whatever the batch."""

from __future__ import annotations

import time
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from token_files import random_stories, tiny_net, token_file

from model import GPT2
from stages.common.errors import UserError
from stages.corpus.tokens import TokenFile
from stages.evaluation import scoring
from stages.evaluation.scoring import RUNS, Predictor, Scored, padded_half, score, share


def naive(net: GPT2, split: TokenFile, stride: int) -> NDArray[np.float64]:
    """Nats per story, one target at a time, by the definition: at least block_size - stride tokens of context, in windows."""
    stream = torch.from_numpy(split.stream.astype(np.int64))
    context = net.config.block_size
    nll = np.zeros(split.stories)
    for target in range(1, len(stream)):
        if target <= context:
            start = 0
        else:  # the end of the target's window: whole strides behind the first window, or the end of the stream
            end = min(len(stream), context + 1 + -(-(target - context) // stride) * stride)
            start = end - 1 - context
        with torch.no_grad():
            logprobs = net(stream[None, start:target])[0, -1].double().log_softmax(-1)
        nll[np.searchsorted(split.offsets, target, side="right") - 1] -= float(logprobs[stream[target]])
    return nll


@settings(max_examples=25, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=6),
    stride=st.integers(1, 16),
    batch=st.integers(1, 5),
)
def test_equal_to_the_definition(lengths: list[int], stride: int, batch: int) -> None:
    """Batched windows give each story the nats that scoring its tokens one by one gives, for any shape."""
    generator = np.random.default_rng(len(lengths))
    split = token_file([generator.integers(1, 20, length).tolist() for length in lengths])
    sums = score(tiny_net(), split, stride, batch=batch)
    assert sums.nll == pytest.approx(naive(tiny_net(), split, stride), abs=1e-4)
    assert sums.tokens.tolist() == [length + 1 for length in lengths]


@pytest.mark.parametrize("stride", [1, 5, 16])
def test_every_token_is_scored_once(stride: int) -> None:
    """Over all windows each target is marked exactly once, in runs of stories as in a whole split."""
    split = token_file(random_stories(40))
    for stories in (None, [range(3), range(10, 20), range(39, 40)]):
        counts = np.zeros(len(split.stream), int)

        class Count:
            def add(self, scored: Scored, counts: NDArray[np.int64] = counts) -> None:
                np.add.at(counts, scored.targets[scored.scores], 1)

        score(tiny_net(), split, stride, stories, watchers=[Count()])
        wanted = np.zeros(len(split.stream), int)
        for run in stories or [range(split.stories)]:
            wanted[split.offsets[run.start] : split.offsets[run.stop]] = 1
        assert counts.tolist() == wanted.tolist()


def test_a_run_of_stories_has_the_text_before_it_as_context() -> None:
    """A story in the middle scores as in the whole split when windows are one token apart: no cold start."""
    split = token_file(random_stories(30))
    whole, part = score(tiny_net(), split, 1), score(tiny_net(), split, 1, [range(12, 15)])
    assert part.nll == pytest.approx(whole.nll[12:15], abs=1e-4)


def test_batch_size_does_not_matter() -> None:
    """Mean nats agree within 1e-5 for batches of 1, 7 and 64 windows."""
    split = token_file(random_stories(60))
    means = [score(tiny_net(), split, 8, batch=batch).nll.sum() / len(split) for batch in (1, 7, 64)]
    assert means == pytest.approx([means[0]] * 3, abs=1e-5)


def test_evaluation_is_inert() -> None:
    """It gives the same bits twice and leaves the random numbers and the weights as they were."""
    split, net = token_file(random_stories(20)), tiny_net()
    before, weights = torch.get_rng_state(), [p.clone() for p in net.parameters()]
    one, two = score(net, split, 8), score(net, split, 8)
    assert one.nll.tobytes() == two.nll.tobytes()
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(old, new) for old, new in zip(weights, net.parameters(), strict=True))


def test_chunks_of_the_head_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Logits made 16 tokens at a time give the same losses as all at once."""
    split = token_file(random_stories(20))
    whole = score(tiny_net(), split, 8).nll
    monkeypatch.setattr(scoring, "CHUNK_BYTES", 1)
    assert score(tiny_net(), split, 8).nll == pytest.approx(whole, abs=1e-5)


@pytest.mark.parametrize("vocab_size", [20, 128, 300])
def test_half_products_give_the_same_losses(vocab_size: int) -> None:
    """The GPU's padded float16 head: losses and confidence within float16's rounding, the mean within 1e-4, the same hits."""
    net, generator = tiny_net(vocab_size=vocab_size), torch.Generator().manual_seed(1)
    windows = torch.randint(0, vocab_size, (40, 17), generator=generator)
    predictor = Predictor(net)
    predictor._half = padded_half(net.lm_head.weight.detach())
    assert len(predictor._half) % 128 == 0
    exact = predictor.start(windows)()
    with torch.inference_mode():
        hidden = net.hidden(windows[:, :-1]).flatten(0, 1)
        half = predictor._chunked(hidden, windows[:, 1:], predictor._in_half)
    torch.testing.assert_close(half[0], exact[0], atol=2e-2, rtol=1e-3)
    torch.testing.assert_close(half[1], exact[1], atol=2e-3, rtol=1e-2)
    assert float((half[0] - exact[0]).mean().abs()) < 1e-4 * float(exact[0].mean())
    assert float((half[2] == exact[2]).float().mean()) > 0.99


def test_overflow_is_scored_again_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch whose float16 losses are not finite is scored exactly; if that is not finite either, the weights are damaged."""
    net, split = tiny_net(), token_file(random_stories(20))
    expected = score(net, split, 8).nll
    start = Predictor.start

    def overflow(self: Predictor, windows: torch.Tensor, exact: bool = False) -> Any:
        losses, *others = start(self, windows)()
        return lambda: (losses if exact else losses / 0.0, *others)

    monkeypatch.setattr(Predictor, "start", overflow)
    assert score(net, split, 8).nll == pytest.approx(expected)
    monkeypatch.setattr(Predictor, "start", lambda self, windows, exact=False: overflow(self, windows))
    with pytest.raises(UserError, match="no finite loss"):
        score(net, split, 8)


def test_batches_in_flight_come_back_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU, where some batches are under way before the first result is read: the same bits."""
    split = token_file(random_stories(60))
    expected = score(tiny_net(), split, 8, batch=3).nll
    make, start, under_way = Predictor.__init__, Predictor.start, []

    def ahead(self: Predictor, net: GPT2) -> None:
        make(self, net)
        self.in_flight = 2

    def noted(self: Predictor, windows: torch.Tensor, exact: bool = False) -> Any:
        found = start(self, windows)
        under_way.append(1)

        def result() -> Any:
            under_way.append(-1)
            return found()

        return result

    monkeypatch.setattr(Predictor, "__init__", ahead)
    monkeypatch.setattr(Predictor, "start", noted)
    assert score(tiny_net(), split, 8, batch=3).nll.tobytes() == expected.tobytes()
    assert under_way[:4] == [1, 1, 1, -1]
    assert sum(under_way) == 0


def test_huge_logits_do_not_overflow() -> None:
    """A network that is sure of itself gives large losses, not infinity."""
    net, split = tiny_net(), token_file(random_stories(5))
    with torch.no_grad():
        net.ln_f.weight.mul_(1e3)
    assert np.isfinite(score(net, split, 8).nll).all()


@settings(max_examples=200, deadline=None)
@given(stories=st.integers(1, 500), wanted=st.integers(1, 600))
def test_a_share_is_as_large_as_asked_and_spread(stories: int, wanted: int) -> None:
    """The share has the number of stories asked for (or all), each once, in order, from the first to near the last."""
    runs = share(stories, wanted)
    chosen = [story for run in runs for story in run]
    assert len(chosen) == min(stories, wanted)
    assert chosen == sorted(set(chosen))
    assert chosen[0] == 0
    assert chosen[-1] < stories
    if wanted >= RUNS:
        assert chosen[-1] >= stories - RUNS


def test_memory_does_not_grow_with_the_corpus(tmp_path: Path) -> None:
    """A share of a token file of 10^8 tokens on disk costs what a share of a small one costs."""
    stories, length = 1_000_000, 100
    stream = np.memmap(tmp_path / "stream", np.uint16, "w+", shape=(stories * length + 1,))  # a sparse file
    split = TokenFile(stream, np.arange(stories + 1, dtype=np.int64) * length + 1)
    tracemalloc.start()
    start = time.perf_counter()
    sums = score(tiny_net(), split, 16, share(stories, 50))
    assert len(sums.nll) == 50
    assert tracemalloc.get_traced_memory()[1] < 8 * stories + (4 << 20)
    assert time.perf_counter() - start < 30
    tracemalloc.stop()


@pytest.mark.slow
def test_transformers_gives_the_same_loss(tmp_path: Path) -> None:
    """An independent computation with transformers on the exported folder agrees within 1e-4 nats per token."""
    transformers = pytest.importorskip("transformers")
    from model import hf

    net, split = tiny_net(), token_file(random_stories(30))
    hf.save(net, tmp_path)
    theirs = transformers.GPT2LMHeadModel.from_pretrained(tmp_path).eval()
    stream, stride, context = torch.from_numpy(split.stream.astype(np.int64)), 8, net.config.block_size
    total, done = 0.0, 1  # as in Hugging Face's guide "Perplexity of fixed-length models"
    with torch.no_grad():
        while done < len(stream):
            end = min(len(stream), max(done + stride, context + 1))
            window = stream[None, max(0, end - 1 - context) : end]
            logprobs = theirs(window[:, :-1]).logits.log_softmax(-1).gather(2, window[:, 1:, None])
            total += float(logprobs[0, done - end :].sum())
            done = end
    assert score(net, split, stride).nll.sum() / len(split) == pytest.approx(-total / len(split), abs=1e-4)
