"""Scoring: the nats of every token of a split, each scored once with a sliding window, and their sums for each story.

Windows run over the packed stream as in training, so a story's first tokens see the story before it. Each window predicts
`block_size` targets and scores the last `stride` of them, which see at least `block_size - stride` tokens of context. With
a block_size of 6 and a stride of 2 (# is scored, . is context):

    window 1   ######
    window 2     ....##
    window 3       ....##

Only the window at the stream's start scores all of its targets (as in Hugging Face's "Perplexity of fixed-length models").

On a CPU all is float32. On a GPU the products are in float16 with float32 sums: a trained network's mean loss moves by 1e-6
(bf16: by 1e-4), a single token's by 8e-4 (6e-3). Where float16 overflows, a batch is scored again in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from model.gpt2 import GPT2
from stages.common.progress import bar
from stages.compute import machine, saved_model
from stages.corpus.tokens import TokenFile

CPU_BATCH_TOKENS = 2_048  # inputs of one forward pass; more is no faster
GPU_BATCH_TOKENS = 131_072  # a GPU is full long before; less where its memory is small
ACTIVATION_BYTES = 64  # of a forward pass without gradients, for each input and unit of width, at most
MEMORY_FRACTION = 0.25  # of a GPU's free memory for a forward pass, and for the logits
CPU_LOGIT_BYTES = 26 << 20  # logits made at a time: they stay in the processor's cache
GPU_LOGIT_BYTES = 4 << 30
LEAST_ROWS = 16  # tokens whose logits are made at a time
HEAD_ROWS = 128  # on a GPU the head's matrix has a multiple of these rows: other products take slow kernels
SEGMENTS = 32  # a part of a split is made of this many segments of consecutive stories


Predictions = tuple[Tensor, Tensor, Tensor]  # losses, confidence, hits; see `Scored`


@dataclass(frozen=True)
class StorySums:
    """What each scored story cost: (S,) each."""

    nll: NDArray[np.float64]  # nats, over the story's tokens and its end-of-text
    tokens: NDArray[np.int64]


@dataclass(frozen=True)
class Scored:
    """A batch of windows, (B, T) each. A token is in several windows; exactly one of them scores it."""

    mask: NDArray[np.bool_]  # this window is the one that scores the target
    losses: NDArray[np.float32]  # nats
    confidence: NDArray[np.float32]  # probability of the likeliest token
    hits: NDArray[np.bool_]  # the likeliest token is the target


def score(
    net: GPT2,
    split: TokenFile,
    stride: int,
    stories: Sequence[range] | None = None,
    watchers: Iterable[Callable[[Scored], None]] = (),
    batch: int | None = None,
    title: str = "score",
) -> StorySums:
    """Score stories, each token exactly once. Memory: 8 bytes per story beside a few batches.

    Args:
        net: in evaluation mode, on the device to use.
        split: the tokens.
        stride: targets that each window scores, 1 to block_size.
        stories: segments of story numbers, in order and apart; None = all. The sums are in their order.
        watchers: called with every batch.
        batch: windows a forward pass; None = what is fast.
        title: for the progress bar.

    Raises:
        UserError: a loss is not a finite number.
    """
    segments = [range(split.stories)] if stories is None else stories
    context = min(net.config.block_size, len(split))  # T
    batch = batch or max(1, batch_tokens(net) // context)
    predictor = Predictor(net, batch)
    spans = [(int(split.offsets[part.start]), int(split.offsets[part.stop])) for part in segments]  # targets [first, last)
    windows = chain.from_iterable(_windows(first, last, context, stride) for first, last in spans)
    nll = np.zeros(split.stories)
    with bar(sum(last - first for first, last in spans), title, "token", unit_scale=True) as progress:
        while now := list(islice(windows, batch)):
            starts, firsts, ends = np.array(now).T[:, :, None]  # (B, 1) each
            places = starts + np.arange(context + 1)  # (B, T + 1)
            losses, confidence, hits = predictor(torch.from_numpy(split.stream[places].astype(np.int64)))
            targets = places[:, 1:]
            mask = (targets >= firsts) & (targets < ends)
            np.add.at(nll, np.searchsorted(split.offsets, targets[mask], side="right") - 1, losses.numpy()[mask])
            for watcher in watchers:
                watcher(Scored(mask, losses.numpy(), confidence.numpy(), hits.numpy()))
            progress.update(int(mask.sum()))
    chosen = np.concatenate([np.arange(part.start, part.stop) for part in segments])
    return StorySums(nll[chosen], split.offsets[chosen + 1] - split.offsets[chosen])


def evenly_spaced_stories(stories: int, wanted: int) -> list[range]:
    """`wanted` of a split's stories as segments of neighbors, evenly spaced from its start to its end.

    Segments, so that windows overlap as they do over a whole split and nearly every window scores `stride` tokens; spread,
    so that a corpus that is sorted in some way is seen whole. Each segment has the text before it as context.
    """
    if wanted >= stories:
        return [range(stories)]
    segments = min(SEGMENTS, wanted)
    lengths = [wanted * (place + 1) // segments - wanted * place // segments for place in range(segments)]
    gaps = (stories - wanted) // max(1, segments - 1)
    starts = [sum(lengths[:place]) + place * gaps for place in range(segments)]
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


def compile_if_it_pays(net: GPT2, targets: int, stride: int) -> None:
    """Compile the network's parts where so many targets are to be scored on a GPU that the time is saved again."""
    weight, context, batch = net.wte.weight, net.config.block_size, batch_tokens(net)
    passes = targets * context // (stride * batch)
    if machine.compiles("auto", weight.device.type, net.config, batch, passes // 3):  # a step of training is three passes
        net.compile_parts()


def batch_tokens(net: GPT2) -> int:
    """Inputs of one forward pass: on a GPU as many as fill it and fit its free memory."""
    if not net.wte.weight.is_cuda:
        return CPU_BATCH_TOKENS
    return gpu_batch_tokens(_free_bytes(net.wte.weight.device), net.config.n_embd)


def gpu_batch_tokens(free: int, n_embd: int) -> int:
    """Inputs of one forward pass in so many bytes of free memory: a power of two, so that some bytes more change no bit."""
    return power_of_two(min(GPU_BATCH_TOKENS, int(MEMORY_FRACTION * free / (ACTIVATION_BYTES * n_embd))))


def gpu_logit_rows(free: int, vocabulary: int) -> int:
    """Tokens whose logits a GPU makes at a time in so many bytes of free memory, a power of two as well."""
    most = min(GPU_LOGIT_BYTES, int(MEMORY_FRACTION * free)) // 2  # sums over them take memory too
    return max(LEAST_ROWS, power_of_two(most // (4 * vocabulary)))


def power_of_two(most: int) -> int:
    """The largest power of two that is at most `most`, and at least 1."""
    return 1 << max(0, most.bit_length() - 1)


def _free_bytes(device: torch.device) -> int:
    """What a GPU can still give this process: free memory, and what PyTorch keeps without using it."""
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(torch.cuda.mem_get_info(device)[0]) + kept


class Predictor:
    """The losses, confidence and hits of the network, or of its compiled parts, on windows of tokens.

    Where parts are compiled, fewer windows than `batch` are filled up to so many, so that there is one shape.
    """

    def __init__(self, net: GPT2, batch: int = 0) -> None:
        self._net, self._weight, self._batch = net, net.lm_head.weight.detach(), batch  # (V, C)
        self._from_logits = torch.compile(from_logits, dynamic=False) if net.compiled else from_logits
        self._rows, self._half = max(LEAST_ROWS, CPU_LOGIT_BYTES // (4 * len(self._weight))), None
        if self._weight.is_cuda:
            self._half = F.pad(self._weight, (0, 0, 0, -len(self._weight) % HEAD_ROWS)).half()
            self._rows = gpu_logit_rows(_free_bytes(self._weight.device), len(self._weight))

    def __call__(self, windows: Tensor) -> Predictions:
        """(B, T + 1) tokens on the CPU -> (B, T) each, on the CPU.

        Raises:
            UserError: a loss is not a finite number, not even in float32.
        """
        count = len(windows)
        if self._net.compiled:
            windows = F.pad(windows, (0, 0, 0, max(0, self._batch - count)))
        found = self.predict(windows, half=self._half is not None)
        if self._half is not None and not found[0].isfinite().all():
            found = self.predict(windows, half=False)
        if not found[0].isfinite().all():
            raise saved_model.not_finite()
        losses, confidence, hits = found
        return losses[:count], confidence[:count], hits[:count]

    @torch.inference_mode()
    def predict(self, windows: Tensor, half: bool) -> Predictions:
        """The same with products in float16 or float32, finite or not. Logits are made for a part of the tokens at a time."""
        windows = windows.to(self._weight.device)
        targets = windows[:, 1:]
        with torch.autocast(windows.device.type, torch.float16, enabled=half):
            hidden = self._net.hidden(windows[:, :-1]).flatten(0, 1)  # (N, C)
        pairs = zip(torch.split(hidden, self._rows), torch.split(targets.flatten(), self._rows), strict=True)
        parts = [self._chunk(states, wanted, half) for states, wanted in pairs]
        losses, confidence, hits = (torch.cat(part).view(targets.shape).cpu() for part in zip(*parts, strict=True))
        return losses, confidence, hits

    def _chunk(self, hidden: Tensor, targets: Tensor, half: bool) -> Predictions:
        """Hidden states (n, C) and targets (n,) -> (n,) each."""
        if half and self._half is not None:
            logits = torch.mm(hidden.half(), self._half.t(), out_dtype=torch.float32)[:, : len(self._weight)]
        else:
            logits = hidden @ self._weight.t()  # (n, V)
        losses, confidence, hits = self._from_logits(logits, targets)
        return losses, confidence, hits


def from_logits(logits: Tensor, targets: Tensor) -> Predictions:
    """(n, V) logits, which are lost, and targets (n,) -> (n,) each; compiled, it reads the logits twice and writes none."""
    top, target = logits.amax(dim=-1), logits.gather(1, targets[:, None])[:, 0]
    log_sum = logits.sub_(top[:, None]).exp_().sum(dim=-1).log_()  # of exp(logits - top): never overflows
    return log_sum + (top - target), (-log_sum).exp_(), target == top
