"""Perplexity: nats of every token of a split, scored once with a sliding window, summed per story.

Windows run over the packed stream as in training, so a story's first tokens see the story before it. A window of
`block_size` inputs scores its last `stride` targets, which see at least `block_size - stride` tokens of context; the window
at the stream's start scores all of its targets. (As in Hugging Face's "Perplexity of fixed-length
models", except that the last window is full too.)

On a CPU all is float32. On a GPU the products are in float16 with float32 sums, residual stream, normalisation and softmax: as
precise as TF32, twice as fast, and on GPUs that have neither TF32 nor bf16 too. A trained network's mean loss moves by 1e-6
that way (bf16: by 1e-4), a single token's by 8e-4 (6e-3). Where float16 overflows, a batch is scored again in float32.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from model.gpt2 import GPT2
from stages.common.errors import UserError
from stages.common.progress import bar
from stages.corpus.tokens import TokenFile

BATCH_TOKENS = 2_048  # inputs of one forward pass on a CPU; more is no faster
MOST_BATCH_TOKENS = 131_072  # on a GPU, which is full long before; less where its memory is small
ACTIVATIONS = 64  # bytes of a forward pass without gradients, for each input and unit of width, at most
SHARE = 0.25  # of a GPU's free memory for a forward pass, and for the logits
CHUNK_BYTES = 26 << 20  # logits made at a time on a CPU: they stay in the processor's cache
MOST_CHUNK_BYTES = 4 << 30  # and on a GPU
ALIGNED = 128  # rows of the head's matrix on a GPU are a multiple of this: other products take slow kernels
AHEAD = 2  # batches that a GPU is given before the CPU reads the first one's results
RUNS = 32  # a share of a split is made of this many runs of consecutive stories


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
    """Something that is shown every batch, such as the curves."""

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
    """Score stories, each token exactly once. Memory: 8 bytes per story beside a few batches.

    Args:
        net: in evaluation mode, on the device to use.
        split: the tokens.
        stride: targets that each window scores, 1 to block_size.
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
        batch = max(1, batch_tokens(net) // context)
    predictor = Predictor(net)
    spans = [(int(split.offsets[run.start]), int(split.offsets[run.stop])) for run in runs]  # targets [first, last)
    windows = chain.from_iterable(_windows(first, last, context, stride) for first, last in spans)
    nll = np.zeros(split.stories)
    with bar(sum(last - first for first, last in spans), title, "token", unit_scale=True) as progress:
        for scored in _in_flight(predictor, split.stream, windows, context, batch):
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


def batch_tokens(net: GPT2) -> int:
    """Inputs of one forward pass: on a GPU as many as fill it and fit its free memory."""
    if not net.wte.weight.is_cuda:
        return BATCH_TOKENS
    fit = SHARE * _free_bytes(net.wte.weight.device) / (ACTIVATIONS * net.config.n_embd)
    return max(1, min(MOST_BATCH_TOKENS, int(fit)))


def _free_bytes(device: torch.device) -> int:
    """What a GPU can still give this process: free memory, and what PyTorch keeps without using it."""
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(torch.cuda.mem_get_info(device)[0]) + kept


def _in_flight(
    predictor: Predictor, stream: NDArray[np.uint16], windows: Iterator[tuple[int, int, int]], context: int, batch: int
) -> Iterator[Scored]:
    """The batches' results in order. A GPU already works on the next ones while the CPU takes in a batch."""
    waiting: deque[Callable[[], Scored]] = deque()
    while now := list(islice(windows, batch)):
        waiting.append(_start(predictor, stream, now, context))
        if len(waiting) > predictor.in_flight:
            yield waiting.popleft()()
    while waiting:
        yield waiting.popleft()()


def _start(
    predictor: Predictor, stream: NDArray[np.uint16], windows: list[tuple[int, int, int]], context: int
) -> Callable[[], Scored]:
    """Give B windows to the network; the result is asked for later.

    The result raises UserError if a loss is not a finite number.
    """
    starts, firsts, ends = np.array(windows).T[:, :, None]  # (B, 1) each
    index = starts + np.arange(context + 1)  # (B, T + 1)
    tokens = torch.from_numpy(stream[index].astype(np.int64))
    found = predictor.start(tokens)

    def result() -> Scored:
        losses, confidence, hits = found()
        if not losses.isfinite().all():
            losses, confidence, hits = predictor.start(tokens, exact=True)()
        if not losses.isfinite().all():
            raise UserError("the network gives no finite loss: its weights are damaged. Make it again: dvc repro -f train")
        targets = index[:, 1:]
        scores = (targets >= firsts) & (targets < ends)
        return Scored(targets, scores, losses.numpy(), confidence.numpy(), hits.numpy())

    return result


Predictions = tuple[Tensor, Tensor, Tensor]  # losses, confidence, hits: (B, T) each, see `Scored`


class Predictor:
    """The network's losses, confidence and hits on windows of tokens."""

    def __init__(self, net: GPT2) -> None:
        self._net, self._weight = net, net.lm_head.weight.detach()  # (V, C)
        self.on_gpu = net.wte.weight.is_cuda
        self.in_flight = AHEAD if self.on_gpu else 0
        self._logit_bytes = CHUNK_BYTES
        if self.on_gpu:
            self._half = padded_half(self._weight)
            self._logit_bytes = (
                int(min(MOST_CHUNK_BYTES, SHARE * _free_bytes(self._weight.device))) // 2
            )  # the softmax takes half

    @torch.inference_mode()
    def start(self, windows: Tensor, exact: bool = False) -> Callable[[], Predictions]:
        """Start with (B, T + 1) tokens on the CPU; what is returned waits for the result and copies it to the CPU.

        `exact`: in float32 on a GPU too.
        """
        if not self.on_gpu:
            tokens, targets = windows[:, :-1], windows[:, 1:]
            found = self._chunked(self._net.hidden(tokens).flatten(0, 1), targets, self._exact)
            return lambda: found
        device = self._weight.device
        moved = windows.pin_memory().to(device, non_blocking=True)
        tokens, targets = moved[:, :-1], moved[:, 1:]
        with torch.autocast("cuda", torch.float16, enabled=not exact):
            hidden = self._net.hidden(tokens).flatten(0, 1)  # (N, C)
        found = self._chunked(hidden, targets, self._exact if exact else self._in_half)
        losses, confidence, hits = (part.to("cpu", non_blocking=True) for part in found)
        done = torch.cuda.Event()  # type: ignore[no-untyped-call]
        done.record()

        def result() -> Predictions:
            done.synchronize()
            return losses, confidence, hits

        return result

    def _chunked(self, hidden: Tensor, targets: Tensor, predict: Callable[[Tensor, Tensor], Predictions]) -> Predictions:
        """`predict` for hidden states (N, C) and as many targets, a part of the logits at a time."""
        rows = max(16, self._logit_bytes // (4 * len(self._weight)))
        pairs = zip(torch.split(hidden, rows), torch.split(targets.flatten(), rows), strict=True)
        parts = [predict(h, y) for h, y in pairs]
        losses, confidence, hits = (torch.cat(part).view(targets.shape) for part in zip(*parts, strict=True))
        return losses, confidence, hits

    def _exact(self, hidden: Tensor, targets: Tensor) -> Predictions:
        """In float32: (n, C) and (n,) -> (n,) each."""
        logits = hidden @ self._weight.t()  # (n, V)
        top, target = logits.amax(dim=-1), logits.gather(1, targets[:, None])[:, 0]
        log_sum = logits.sub_(top[:, None]).exp_().sum(dim=-1).log_()  # of exp(logits - top): never overflows
        return log_sum + (top - target), (-log_sum).exp_(), target == top

    def _in_half(self, hidden: Tensor, targets: Tensor) -> Predictions:
        """The same with a product of float16 matrices whose sums are float32."""
        logits = _product(hidden.half(), self._half)
        logits[:, len(self._weight) :] = -torch.inf  # the rows that were added
        logprobs = torch.log_softmax(logits, dim=-1)
        best, target = logprobs.amax(dim=-1), logprobs.gather(1, targets[:, None])[:, 0]
        return -target, best.exp(), target == best


def padded_half(weight: Tensor) -> Tensor:
    """(V, C) -> float16, with rows of zeros up to a multiple of ALIGNED."""
    return F.pad(weight, (0, 0, 0, -len(weight) % ALIGNED)).half()


def _product(a: Tensor, b: Tensor) -> Tensor:
    """a @ b.T of float16 matrices in float32; a CPU rounds the result too (tests only)."""
    return torch.mm(a, b.t(), out_dtype=torch.float32) if a.is_cuda else (a @ b.t()).float()
