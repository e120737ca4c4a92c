"""Perplexity: nats of every token of a split, scored once with a sliding window, summed per story.

Windows run over the packed stream as in training, so a story's first tokens see the story before it. A window of
`block_size` inputs scores its last `stride` targets, which see at least `block_size - stride` tokens of context; the window
at the stream's start scores all of its targets. (As in Hugging Face's "Perplexity of fixed-length
models", except that the last window is full too.)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.gpt2 import GPT2
from stages.common.errors import UserError
from stages.common.progress import bar
from stages.corpus.tokens import TokenFile

BATCH_TOKENS = 2_048  # inputs a forward pass on a CPU; more is no faster
BATCH_TOKENS_CUDA = 65_536
CHUNK_BYTES = 26 << 20  # logits made at a time: they stay in the processor's cache
RUNS = 32  # stretches of consecutive stories that a share of a split is made of


@dataclass(frozen=True)
class StorySums:
    """What each scored story cost: (S,) each."""

    nll: NDArray[np.float64]  # nats, over the story's tokens and its end-of-text
    tokens: NDArray[np.int64]


@dataclass(frozen=True)
class Scored:
    """A batch of windows, (B, T) each. A token is in several windows; exactly one of them scores it."""

    targets: NDArray[np.int64]  # index in the stream
    scores: NDArray[np.bool_]  # this window is the one that scores the target
    losses: NDArray[np.float32]  # nats
    confidence: NDArray[np.float32]  # probability of the likeliest token
    hits: NDArray[np.bool_]  # the likeliest token is the target


class Watcher(Protocol):
    """Something that looks at every batch, as the curves do."""

    def add(self, scored: Scored) -> None:
        """Take in a batch."""


def score(
    net: GPT2,
    split: TokenFile,
    stride: int,
    stories: Sequence[range] | None = None,
    watchers: Iterable[Watcher] = (),
    batch: int | None = None,
    title: str = "score",
) -> StorySums:
    """Score stories in float32, each token exactly once. Memory: 8 bytes a story beside one batch.

    Args:
        net: in evaluation mode, on the device to use.
        split: the tokens.
        stride: targets scored a window, 1 to block_size.
        stories: runs of story numbers, in order and apart; None = all.
        watchers: get every batch.
        batch: windows a forward pass (the result does not depend on it beyond float32 rounding); None = what is fast.
        title: for the progress bar.

    Returns:
        the stories' sums, in the order of `stories`.

    Raises:
        UserError: a loss is not a finite number.
    """
    runs = [range(split.stories)] if stories is None else stories
    context = min(net.config.block_size, len(split))  # T
    if batch is None:
        batch = max(1, (BATCH_TOKENS_CUDA if net.wte.weight.is_cuda else BATCH_TOKENS) // context)
    spans = [(int(split.offsets[run.start]), int(split.offsets[run.stop])) for run in runs]  # targets [first, last)
    windows = chain.from_iterable(_windows(first, last, context, stride) for first, last in spans)
    nll = np.zeros(split.stories)
    with bar(sum(last - first for first, last in spans), title, "token", unit_scale=True) as progress:
        while now := list(islice(windows, batch)):
            scored = _score(net, split.stream, now, context)
            if not np.isfinite(scored.losses).all():
                raise UserError("the network gives no finite loss: its weights are damaged. Make it again: dvc repro -f train")
            targets = scored.targets[scored.scores]
            np.add.at(nll, np.searchsorted(split.offsets, targets, side="right") - 1, scored.losses[scored.scores])
            for watcher in watchers:
                watcher.add(scored)
            progress.update(len(targets))
    chosen = np.concatenate([np.arange(run.start, run.stop) for run in runs])
    return StorySums(nll[chosen], split.offsets[chosen + 1] - split.offsets[chosen])


def share(stories: int, wanted: int, runs: int = RUNS) -> list[range]:
    """`wanted` of a split's stories as runs of neighbours, evenly spaced from its start to its end.

    Runs, so that windows overlap as they do over a whole split and nearly every window scores `stride` tokens; spread,
    so that a corpus that is sorted in some way is seen whole. Each run has the text before it as context.
    """
    if wanted >= stories:
        return [range(stories)]
    runs = min(runs, wanted)
    lengths = [wanted * (run + 1) // runs - wanted * run // runs for run in range(runs)]
    gaps = (stories - wanted) // max(1, runs - 1)
    starts = [sum(lengths[:run]) + run * gaps for run in range(runs)]
    return [range(start, start + length) for start, length in zip(starts, lengths, strict=True)]


def _windows(first: int, last: int, context: int, stride: int) -> Iterator[tuple[int, int, int]]:
    """Windows that score the targets [first, last) once each: (start of the inputs, first target scored, behind the last).

    A window's targets are stream[start + 1 : start + 1 + context]. It ends with the last target that it scores, so that it
    has all the context there is; only the one at the stream's start has less.
    """
    done = first
    while done < last:
        end = min(last, max(done + stride, context + 1))
        yield max(0, end - 1 - context), done, end
        done = end


def _score(net: GPT2, stream: NDArray[np.uint16], windows: list[tuple[int, int, int]], context: int) -> Scored:
    """Look at B windows at once."""
    starts, firsts, ends = np.array(windows).T[:, :, None]  # (B, 1) each
    index = starts + np.arange(context + 1)  # (B, T + 1)
    tokens = torch.from_numpy(stream[index].astype(np.int64)).to(net.wte.weight.device)
    losses, confidence, hits = _predict(net, tokens[:, :-1], tokens[:, 1:])
    targets = index[:, 1:]
    return Scored(targets, (targets >= firsts) & (targets < ends), losses.numpy(), confidence.numpy(), hits.numpy())


@torch.inference_mode()
def _predict(net: GPT2, tokens: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Losses, confidence and hits (see `Scored`), (B, T) each, on the CPU; the logits are made a chunk at a time."""
    hidden, weight = net.hidden(tokens).flatten(0, 1), net.lm_head.weight  # (N, C), (V, C)
    rows = max(16, CHUNK_BYTES // (4 * len(weight)))
    parts = []
    for h, y in zip(torch.split(hidden, rows), torch.split(targets.flatten(), rows), strict=True):
        logits = h @ weight.t()  # (n, V)
        top, target = logits.amax(dim=-1), logits.gather(1, y[:, None])[:, 0]
        log_sum = logits.sub_(top[:, None]).exp_().sum(dim=-1).log_()  # of exp(logits - top): never overflows
        parts.append((log_sum + (top - target), (-log_sum).exp_(), target == top))
    losses, confidence, hits = (torch.cat(part).view(targets.shape).cpu() for part in zip(*parts, strict=True))
    return losses, confidence, hits
