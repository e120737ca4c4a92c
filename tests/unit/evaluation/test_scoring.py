"""Scoring: every token once, with the context that the stride promises, whatever the batch."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tiny import network, random_stories, token_file

from model import GPT2
from stages.corpus.tokens import TokenFile
from stages.evaluation import scoring
from stages.evaluation.scoring import SEGMENTS, evenly_spaced_stories, score


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
@given(lengths=st.lists(st.integers(1, 20), min_size=1, max_size=5), stride=st.integers(1, 16), batch=st.integers(1, 5))
def test_a_story_s_nats_are_those_of_scoring_token_by_token(lengths: list[int], stride: int, batch: int) -> None:
    """Batched windows give each story the nats that scoring its tokens one by one gives, for any shape."""
    generator = np.random.default_rng(len(lengths))
    split = token_file([generator.integers(1, 20, length).tolist() for length in lengths])
    sums = score(network(), split, stride, batch=batch)
    assert sums.nll == pytest.approx(naive(network(), split, stride), abs=1e-4)
    assert sums.tokens.tolist() == [length + 1 for length in lengths]


def test_a_segment_of_stories_has_the_text_before_it_as_context() -> None:
    """A story in the middle scores as in the whole split when windows are one token apart: no cold start."""
    split = token_file(random_stories(30))
    whole, part = score(network(), split, 1), score(network(), split, 1, [range(12, 15)])
    assert part.nll == pytest.approx(whole.nll[12:15], abs=1e-4)


def test_chunks_of_the_head_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Logits made 16 tokens at a time give the same losses as all at once."""
    split = token_file(random_stories(20))
    whole = score(network(), split, 8).nll
    monkeypatch.setattr(scoring, "CPU_LOGIT_BYTES", 1)
    assert score(network(), split, 8).nll == pytest.approx(whole, abs=1e-5)


def test_scoring_changes_nothing_but_its_result() -> None:
    """The weights, and the random state of torch and numpy, are after it what they were before."""
    net, split = network(), token_file(random_stories(5))
    weights = {name: weight.clone() for name, weight in net.state_dict().items()}
    of_torch, of_numpy = torch.get_rng_state(), repr(np.random.get_state())
    score(net, split, 8)
    assert torch.equal(torch.get_rng_state(), of_torch)
    assert repr(np.random.get_state()) == of_numpy
    assert all(torch.equal(weight, weights[name]) for name, weight in net.state_dict().items())


@settings(max_examples=200, deadline=None)
@given(stories=st.integers(1, 500), wanted=st.integers(1, 600))
def test_a_part_of_a_split_is_as_large_as_asked_and_spread(stories: int, wanted: int) -> None:
    """The part has the number of stories asked for (or all), each once, in order, from the first to near the last."""
    segments = evenly_spaced_stories(stories, wanted)
    chosen = [story for part in segments for story in part]
    assert len(chosen) == min(stories, wanted)
    assert chosen == sorted(set(chosen))
    assert chosen[0] == 0
    assert chosen[-1] < stories
    if wanted >= SEGMENTS:
        assert chosen[-1] >= stories - SEGMENTS


def test_memory_does_not_grow_with_the_corpus(tmp_path: Path) -> None:
    """A part of a token file of 10^8 tokens on disk costs what a part of a small one costs."""
    stories, length = 1_000_000, 100
    stream = np.memmap(tmp_path / "stream", np.uint16, "w+", shape=(stories * length + 1,))  # a sparse file
    split = TokenFile(stream, np.arange(stories + 1, dtype=np.int64) * length + 1)
    tracemalloc.start()
    sums = score(network(), split, 16, evenly_spaced_stories(stories, 50))
    assert len(sums.nll) == 50
    assert tracemalloc.get_traced_memory()[1] < 8 * stories + (4 << 20)
    tracemalloc.stop()


@pytest.mark.parametrize("gigabytes", [0.001, 1, 15, 24, 79, 140])
def test_a_gpu_s_batches_do_not_follow_each_byte(gigabytes: float) -> None:
    """Batch and chunk of a GPU are powers of two that fit its free memory: some bytes more or less change no bit."""
    free = int(gigabytes * 2**30)
    batch, rows = scoring.gpu_batch_tokens(free, 768), scoring.gpu_logit_rows(free, 50_257)
    for size in (batch, rows):
        assert size & (size - 1) == 0
    assert batch == 1 or batch * 768 * scoring.ACTIVATION_BYTES <= free * scoring.MEMORY_FRACTION
    assert batch <= scoring.GPU_BATCH_TOKENS
    assert rows == scoring.LEAST_ROWS or rows * 50_257 * 8 <= free * scoring.MEMORY_FRACTION


def test_a_compiled_pass_has_one_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the network is compiled, the last, smaller batch is filled up, and the nats are the uncompiled network's."""
    split, net = token_file(random_stories(20)), network()
    expected = score(net, split, 8, batch=7).nll
    shapes, hidden = set(), net.hidden
    monkeypatch.setattr(torch, "compile", lambda run, dynamic: run)
    monkeypatch.setattr(net, "hidden", lambda tokens: shapes.add(tokens.shape) or hidden(tokens))
    net.compiled = True
    assert score(net, split, 8, batch=7).nll == pytest.approx(expected, abs=1e-4)
    assert shapes == {(7, 16)}
